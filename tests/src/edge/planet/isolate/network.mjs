// What an isolate reaches by `fetch` and by the Cache API.
import { env } from "cloudflare:workers";
import { subrequest } from "./invocation.mjs";

const fetchForReal = globalThis.fetch.bind(globalThis);
const isAddress = (host) => /^\d+\.\d+\.\d+\.\d+$/.test(host) || host.startsWith("[");

// Names that end in `.example` are servers of the test. Addresses are refused, as in production.
function outbound(request) {
  const { hostname, host } = new URL(request.url);
  // Cloudflare's cache in front of a server would answer, perhaps with what was right before.
  if (request.cache !== "no-store") return new Response("a cache answers this", { status: 203 });
  if (isAddress(hostname)) return new Response("error code: 1003", { status: 403 });
  const named = env[`host ${host}`];
  return named ? named.fetch(request) : fetchForReal(request);
}

globalThis.fetch = (resource, options) => {
  const request = new Request(resource, options);
  return subrequest(async () => outbound(request));
};

const flatten = async (response) => ({
  status: response.status,
  headers: Object.fromEntries(response.headers),
  body: await response.arrayBuffer(),
});

const urlOf = (key) => (typeof key === "string" ? key : key.url);

// The Cache API of a location. `ask` asks the world.
export function useCache(ask) {
  const cache = {
    async match(key) {
      const found = await subrequest(() => ask("cache", "match", urlOf(key)));
      return found && new Response(found.body, { status: found.status, headers: found.headers });
    },
    async put(key, response) {
      const flat = await flatten(response);
      await subrequest(() => ask("cache", "put", urlOf(key), flat));
    },
    delete: (key) => subrequest(() => ask("cache", "delete", urlOf(key))),
  };
  Object.defineProperty(globalThis, "caches", { value: { default: cache, open: async () => cache }, configurable: true });
}
