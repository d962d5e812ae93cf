// The Worker under test, in a wrapper that can break its bindings for one request, and read them.
//
//   x-test-fault: kv-get, kv-put, r2-get, r2-put, repository   those calls fail in this request
//   x-test-fault: r2-busy                                      another isolate puts the same a moment before
//   x-test-fault: objects-hang                                 no Durable Object answers in this request
//   x-test-fault: flights-overloaded, flights-reset            those objects throw what Cloudflare's throw
//   x-test-fault: r2-half-a-million-seconds-old                objects in R2 are that much older in this request
//   /.test/kv/<key>, /.test/r2/<key>       PUT, GET, DELETE; /.test/kv lists keys with their metadata
//   /.test/boarded                         how many requests have been sent to the objects that ask the backend
//   /.test/reads                           how often KV and R2 were read
//   /.test/points                          what was counted: miniflare's Analytics Engine keeps nothing
import Inner, { Flight, Repository, Tag } from "./index.js";
import { WorkerEntrypoint } from "cloudflare:workers";
export { Flight, Repository, Tag };

const points = [];
const counter = { writeDataPoint: (point) => void points.push(point) };

const reads = { kv: 0, r2: 0 };

const counting = (store, read) => (...rest) => {
  reads[store] += 1;
  return read(...rest);
};

const broken = (what) => async () => {
  throw new Error(`${what} failed: 429 Too Many Requests`);
};

// The Worker's R2 wrapper checks the name of the class.
class R2Bucket {
  get = broken("R2 GET");
  head = broken("R2 HEAD");
}

// It also checks that a namespace of Durable Objects is one.
const brokenObjects = (namespace, fetch = broken("a Durable Object")) =>
  new Proxy(namespace, {
    get: (target, name) =>
      name === "getByName" ? () => ({ fetch }) : Reflect.get(target, name),
  });
// Counts the requests to Durable Objects.
let boarded = 0;
const countedObjects = (namespace) =>
  new Proxy(namespace, {
    get: (target, name) => {
      if (name !== "getByName") return Reflect.get(target, name);
      return (...rest) => {
        const stub = target.getByName(...rest);
        return {
          fetch: (...request) => {
            boarded += 1;
            return stub.fetch(...request);
          },
        };
      };
    },
  });
const writeProtected = (bucket) => {
  const result = new R2Bucket();
  result.get = bucket.get.bind(bucket);
  result.head = bucket.head.bind(bucket);
  result.put = broken("R2 PUT");
  return result;
};

// R2 takes one write per key and second.
const busy = (bucket) => {
  const result = writeProtected(bucket);
  result.put = async (...rest) => {
    await bucket.put(...rest);
    throw new Error("put: Reduce your concurrent request rate for the same object. (10058)");
  };
  return result;
};

// The same bindings, with reads counted.
function counted(env) {
  const { MANIFESTS: kv, BLOBS: r2 } = env;
  const result = { ...env, PULLS: counter };
  if (kv) {
    result.MANIFESTS = Object.fromEntries(["put", "list", "delete"].map((name) => [name, kv[name].bind(kv)]));
    for (const name of ["get", "getWithMetadata"]) result.MANIFESTS[name] = counting("kv", kv[name].bind(kv));
  }
  if (env.FLIGHTS) result.FLIGHTS = countedObjects(env.FLIGHTS);
  result.BLOBS = new R2Bucket();
  result.BLOBS.put = r2.put.bind(r2);
  for (const name of ["get", "head"]) result.BLOBS[name] = counting("r2", r2[name].bind(r2));
  return result;
}

const older = (bucket, seconds) => {
  const result = new R2Bucket();
  result.head = bucket.head.bind(bucket);
  result.put = bucket.put.bind(bucket);
  result.get = async (...rest) => {
    const object = await bucket.get(...rest);
    if (!object) return object;
    const { body, bodyUsed, size } = object;
    const uploaded = new Date(object.uploaded - seconds * 1000);
    return { body, bodyUsed, size, uploaded, arrayBuffer: () => object.arrayBuffer() };
  };
  return result;
};

function withFaults(env, faults) {
  const kv = env.MANIFESTS && {
    get: env.MANIFESTS.get.bind(env.MANIFESTS),
    getWithMetadata: env.MANIFESTS.getWithMetadata.bind(env.MANIFESTS),
    put: env.MANIFESTS.put.bind(env.MANIFESTS),
    list: env.MANIFESTS.list.bind(env.MANIFESTS),
    delete: env.MANIFESTS.delete.bind(env.MANIFESTS),
  };
  const result = { ...env, MANIFESTS: kv };
  for (const fault of faults) {
    if (fault === "kv-get") kv.get = kv.getWithMetadata = broken("KV GET");
    else if (fault === "kv-put") kv.put = broken("KV PUT");
    else if (fault === "r2-get") result.BLOBS = new R2Bucket();
    else if (fault === "repository") result.REPOSITORIES = brokenObjects(env.REPOSITORIES);
    else if (fault === "objects-hang")
      for (const name of ["FLIGHTS", "REPOSITORIES", "TAGS"])
        result[name] = brokenObjects(env[name], () => new Promise(() => {}));
    else if (fault === "flights-overloaded" || fault === "flights-reset") {
      const flag = fault === "flights-reset" ? "retryable" : "overloaded";
      result.FLIGHTS = brokenObjects(env.FLIGHTS, async () => {
        boarded += 1;
        throw Object.assign(new Error("a Durable Object failed"), { [flag]: true });
      });
    } else if (fault === "r2-put") result.BLOBS = writeProtected(env.BLOBS);
    else if (fault === "r2-busy") result.BLOBS = busy(env.BLOBS);
    else if (fault === "r2-half-a-million-seconds-old") result.BLOBS = older(env.BLOBS, 500_000);
    else throw new Error(`unknown fault ${fault}`);
  }
  return result;
}

async function inspect(env, request, url) {
  if (url.pathname === "/.test/boarded") return Response.json(boarded);
  if (url.pathname === "/.test/reads") return Response.json(reads);
  if (url.pathname === "/.test/points") return Response.json(points);
  const [store, ...rest] = url.pathname.slice("/.test/".length).split("/");
  const key = rest.join("/");
  const binding = { kv: env.MANIFESTS, r2: env.BLOBS }[store];
  const metadata = url.searchParams.get("metadata");
  switch (request.method) {
    case "PUT":
      await binding.put(key, await request.arrayBuffer(), metadata ? { metadata: JSON.parse(metadata) } : {});
      return new Response("stored");
    case "DELETE":
      await binding.delete(key);
      return new Response("deleted");
    default: {
      if (!key) return Response.json((await binding.list()).keys);
      const value = store === "kv" ? await binding.get(key, "arrayBuffer") : (await binding.get(key))?.body;
      return value ? new Response(value) : new Response("nothing", { status: 404 });
    }
  }
}

export default class extends WorkerEntrypoint {
  async fetch(request) {
    const url = new URL(request.url);
    if (url.pathname.startsWith("/.test/")) return inspect(this.env, request, url);
    const faults = (request.headers.get("x-test-fault") ?? "").split(",").filter(Boolean);
    const known = counted(this.env);
    const env = faults.length ? withFaults(known, faults) : known;
    return new Inner(this.ctx, env).fetch(request);
  }
}
