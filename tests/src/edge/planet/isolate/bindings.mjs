// The bindings that the Worker gets: each operation asks the world first.
//
// `x-test-fault` breaks some of them for one request:
//   kv-get, kv-put, r2-get, r2-put, repository   those calls fail
//   objects-hang                                 no Durable Object answers
//   objects-reset                                each request to a Durable Object ends because the object was reset
//   r2-half-a-million-seconds-old                objects in R2 are that much older
import { setClock } from "./clock.mjs";
import { current, subrequest } from "./invocation.mjs";
import { tally } from "./tally.mjs";

const FAULTS = [
  ...["kv-get", "kv-put", "r2-get", "r2-put", "repository"],
  ...["objects-hang", "objects-reset", "r2-half-a-million-seconds-old"],
];

export function checkFaults(faults) {
  for (const fault of faults) if (!FAULTS.includes(fault)) throw new Error(`unknown fault ${fault}`);
}

const breakIf = (fault, what) => {
  if (current().faults.has(fault)) throw new Error(`${what} failed: 500 Internal Server Error`);
};

// Asks the world on behalf of an isolate at a location.
export const asker = (env, from) => async (method, ...rest) => {
  const { now, value, error } = await env.WORLD[method](from, ...rest);
  setClock(now, env.SETTINGS.standing);
  if (error) throw Object.assign(new Error(error.message), error);
  return value;
};

const bytesOf = (value) => new Response(value).arrayBuffer();

function decode(value, options) {
  if (value === null) return null;
  const kind = (typeof options === "string" ? options : options?.type) ?? "text";
  switch (kind) {
    case "arrayBuffer":
      return value;
    case "stream":
      return new Response(value).body;
    case "json":
      return JSON.parse(new TextDecoder().decode(value));
    default:
      return new TextDecoder().decode(value);
  }
}

function kv(ask) {
  const read = (method) => async (key, options) => {
    breakIf("kv-get", "KV GET");
    const { value, metadata } = await subrequest(() => ask("kv", method, key, options?.cacheTtl));
    return { value: decode(value, options), metadata, cacheStatus: null };
  };
  return {
    get: async (key, options) => (await read("get")(key, options)).value,
    getWithMetadata: read("getWithMetadata"),
    async put(key, value, { metadata, expirationTtl } = {}) {
      breakIf("kv-put", "KV PUT");
      const bytes = await bytesOf(value);
      await subrequest(() => ask("kv", "put", key, { value: bytes, metadata, expirationTtl }));
    },
    delete: (key) => subrequest(() => ask("kv", "delete", key)),
    list: (options) => subrequest(() => ask("kv", "list", undefined, { ...options })),
  };
}

// The Worker's wrapper checks the names of these two classes.
class R2Bucket {
  constructor(bucket, ask) {
    const read = (method) => (key, ...rest) => {
      breakIf("r2-get", "R2 GET");
      return subrequest(async () => dated(await ask("r2", method, key), await bucket[method](key, ...rest)));
    };
    this.get = read("get");
    this.head = read("head");
    this.put = (key, ...rest) => {
      breakIf("r2-put", "R2 PUT");
      return subrequest(async () => {
        await ask("r2", "put", key);
        const object = await bucket.put(key, ...rest);
        // Null if a condition was not met.
        if (object) await ask("r2Written", key);
        return object;
      });
    };
    this.list = (...rest) => subrequest(async () => (await ask("r2", "list"), bucket.list(...rest)));
    this.delete = (keys) => subrequest(async () => (await ask("r2", "delete"), bucket.delete(keys)));
  }
}

class Ratelimit {
  constructor(binding, ask) {
    this.limit = ({ key }) => ask("limit", binding, key);
  }
}

// An object of R2 with the world's time of writing.
function dated(uploaded, object) {
  if (!object) return object;
  const older = current().faults.has("r2-half-a-million-seconds-old") ? 500_000_000 : 0;
  const date = new Date((uploaded ?? object.uploaded.getTime()) - older);
  return new Proxy(object, {
    get(target, name) {
      if (name === "uploaded") return date;
      const value = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

const wasReset = () => {
  const error = new Error("Durable Object reset because its code was updated.");
  return Object.assign(error, { retryable: true, durableObjectReset: true });
};

function objects(namespace, binding, ask) {
  const stub = (name, real, hint) => ({
    name,
    fetch: (resource, options) => {
      if (current().faults.has("objects-hang")) return new Promise(() => {});
      if (binding === "REPOSITORIES") breakIf("repository", "a Durable Object");
      const request = new Request(resource, options);
      return subrequest(async () => {
        const { home, life } = await ask("object", binding, name, hint);
        if (current().faults.has("objects-reset")) throw wasReset();
        const inner = new Request(request);
        inner.headers.set("x-test-location", home);
        try {
          const answer = await real.fetch(inner);
          await ask("clock");
          return answer;
        } catch (error) {
          if ((await ask("objectLife")) === life) throw error;
          throw wasReset();
        }
      });
    },
  });
  return new Proxy(namespace, {
    get: (target, property) => {
      switch (property) {
        case "getByName":
          return (name, options) => stub(name, target.getByName(name, options), options?.locationHint);
        case "get":
          return (id, options) => stub(id.name ?? String(id), target.get(id, options), options?.locationHint);
        default: {
          const value = Reflect.get(target, property);
          return typeof value === "function" && property !== "constructor" ? value.bind(target) : value;
        }
      }
    },
  });
}

// The environment of the Worker, or of its objects.
export function bindings(env, ask) {
  const { variables, kv: hasKv, limits, objects: classes, unbound } = env.SETTINGS;
  const result = { ...variables, BLOBS: new R2Bucket(env.BLOBS, ask) };
  if (hasKv) result.MANIFESTS = kv(ask);
  for (const name of Object.keys(limits)) result[name] = new Ratelimit(name, ask);
  for (const name of Object.keys(classes)) result[name] = objects(env[name], name, ask);
  if (!unbound.includes("PULLS")) result.PULLS = { writeDataPoint: (point) => void tally.points.push(point) };
  return result;
}
