// A Worker that does one operation as its URL says, and tells what came of it: /<what>/<method>/<key>[?value=…].
import { WorkerEntrypoint } from "cloudflare:workers";

let requests = 0;

const operations = {
  kv: async (env, method, key, value) => {
    if (method === "put") return (await env.MANIFESTS.put(key, value), "stored");
    if (method === "list") return (await env.MANIFESTS.list()).keys.map(({ name }) => name);
    return env.MANIFESTS[method](key);
  },
  r2: async (env, method, key, value) => {
    if (method === "list") return (await env.BLOBS.list()).objects.length;
    const object = await env.BLOBS[method](key, ...(value === null ? [] : [value]));
    return method === "get" ? object && object.text() : Boolean(object);
  },
  object: async (env, method, key) => (await env.FLIGHTS.getByName(key).fetch(`https://flight/${method}`)).json(),
  cache: async (env, method, key, value) => {
    const url = `https://firn.example/${key}`;
    if (method === "put") return (await caches.default.put(url, new Response(value, { headers: { "cache-control": "max-age=30" } })), "kept");
    return (await caches.default.match(url))?.text();
  },
  fetch: async (env, method, key) => {
    const response = await fetch(decodeURIComponent(key), { cache: "no-store" });
    return [response.status, await response.text()];
  },
  // So many reads of KV at once.
  many: async (env, method, key) => {
    await Promise.all(Array.from({ length: Number(key) }, () => env.MANIFESTS.get("a")));
  },
  // Whether KV can be read while so many requests to a server that does not answer are under way.
  beside: async (env, method, key) => {
    const controller = new AbortController();
    const { signal } = controller;
    const hanging = Array.from({ length: Number(method) }, () => fetch(decodeURIComponent(key), { signal, cache: "no-store" }).catch(() => {}));
    const read = env.MANIFESTS.get("a").then(() => "read");
    const first = await Promise.race([read, new Promise((resolve) => setTimeout(() => resolve("not read"), 500))]);
    controller.abort();
    await Promise.all([...hanging, read]);
    return first;
  },
  purge: async (env, method, key, value, ctx) => ctx.cache.purge({ tags: [key] }),
  wait: async (env, method, key) => void (await new Promise((resolve) => setTimeout(resolve, Number(key)))),
  memory: async () => (requests += 1),
  time: async () => Date.now(),
  limit: async (env, method, key) => env.MISSES.limit({ key }),
  log: async () => void console.log("a line"),
  point: async (env) => void env.PULLS.writeDataPoint({}),
};

// The Worker's classes have no base either.
export class Flight {
  requests = 0;

  constructor(ctx, env) {
    this.ctx = ctx;
    this.env = env;
  }

  async fetch(request) {
    const method = new URL(request.url).pathname.slice(1);
    this.requests += 1;
    if (method === "hang") await new Promise((resolve) => setTimeout(resolve, 30_000));
    if (method === "store") await this.ctx.storage.put("kept", this.requests);
    const kept = (await this.ctx.storage.get("kept")) ?? null;
    const read = method === "read" ? await this.env.MANIFESTS.get("a") : null;
    return Response.json({ requests: this.requests, kept, read });
  }
}

export class Repository {}
export class Tag {}

export default class extends WorkerEntrypoint {
  async fetch(request) {
    const url = new URL(request.url);
    const [, what, method, ...key] = url.pathname.split("/");
    // An answer with the headers in the query, that has how many requests there were in its body.
    if (what === "answer") {
      requests += 1;
      const headers = { etag: '"same"', ...Object.fromEntries(url.searchParams) };
      const { status = 200, delay = 0, unchanged, ...rest } = headers;
      await new Promise((resolve) => setTimeout(resolve, Number(delay)));
      if (unchanged && request.headers.get("if-none-match") === rest.etag) return new Response(null, { status: 304 });
      return new Response(`${request.method} ${requests}`, { status: Number(status), headers: rest });
    }
    try {
      const value = await operations[what](this.env, method, key.join("/"), url.searchParams.get("value"), this.ctx);
      return Response.json({ value: value ?? null });
    } catch (error) {
      const { message, overloaded = false, retryable = false } = error;
      return Response.json({ error: { message, overloaded, retryable } });
    }
  }
}
