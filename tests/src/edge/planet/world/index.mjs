// The world around the Worker: what all isolates of all locations share, and the way to them.
//
// Clients' requests arrive here. `x-test-location` and `x-test-isolate` say which isolate gets one; without them the
// first location does, and its isolates take turns. `/.test/…` is for tests: see `control` below.
//
// All state is plain data in this isolate, so that it is the same for all. The isolates call `World` for each operation
// of a binding.
import { WorkerEntrypoint } from "cloudflare:workers";
import { Bill } from "./bill.mjs";
import { billedAs, Bucket } from "./bucket.mjs";
import { Front } from "./front.mjs";
import { Limiters } from "./limiters.mjs";
import { LocationCache } from "./location_cache.mjs";
import { Namespace } from "./kv.mjs";
import { Objects } from "./objects.mjs";

let world;

class State {
  #offset = 0;
  #start = Date.now();
  #turns = new Map();
  boarded = 0;
  reads = { kv: 0, r2: 0 };

  constructor(settings) {
    this.settings = settings;
    const isStrict = settings.strict;
    this.bill = new Bill();
    this.kv = new Namespace({ isStrict });
    this.bucket = new Bucket({ isStrict });
    this.objects = new Objects({ rate: settings.object_rate });
    this.limiters = new Limiters(settings.limits);
    this.caches = new Map(settings.locations.map(({ name }) => [name, new LocationCache()]));
    this.front = new Front();
    // How often each isolate was ended, and the one of the Durable Objects.
    this.lives = new Map();
  }

  now() {
    return (this.settings.standing ? this.#start : Date.now()) + this.#offset;
  }

  advance(milliseconds) {
    this.#offset += milliseconds;
  }

  // The next isolate of a location, as the service's name.
  isolate(location, wanted) {
    const place = this.settings.locations.find(({ name }) => name === location);
    if (!place) throw new Error(`there is no location ${location}`);
    const turn = this.#turns.get(location) ?? 0;
    if (wanted === null) this.#turns.set(location, turn + 1);
    const number = wanted === null ? turn % place.isolates : Number(wanted);
    if (!(number < place.isolates)) throw new Error(`${location} has no isolate ${wanted}`);
    return `${location}-${number}`;
  }

  life(service) {
    return this.lives.get(service) ?? 0;
  }
}

const state = (env) => (world ??= new State(env.SETTINGS));

// Does something for an isolate. Errors are data, because they would lose their properties on the way.
function answer(env, work) {
  const world = state(env);
  const now = world.now();
  try {
    return { now, value: work(world, now) };
  } catch (error) {
    return { now, error: { message: error.message, overloaded: error.overloaded } };
  }
}

// What isolates call. `from` is { location, service }: the location whose view counts, and the isolate that asks.
export class World extends WorkerEntrypoint {
  clock() {
    return answer(this.env, () => null);
  }

  kv(from, method, key, argument) {
    return answer(this.env, (world, now) => {
      const kinds = { get: "kv_reads", getWithMetadata: "kv_reads", put: "kv_writes", delete: "kv_deletes", list: "kv_lists" };
      world.bill.count(kinds[method], from.service, key ?? "");
      if (kinds[method] === "kv_reads" && from.service !== "objects") world.reads.kv += 1;
      switch (method) {
        case "get":
        case "getWithMetadata": {
          const { value, metadata } = world.kv.read(now, from.location, "GET", key, argument);
          return { value, metadata };
        }
        case "put":
          return world.kv.write(now, from.location, "PUT", key, argument);
        case "delete":
          return world.kv.write(now, from.location, "DELETE", key, {});
        case "list":
          return world.kv.list(now, from.location, argument);
      }
    });
  }

  // Returns when the object was written, if that is known.
  r2(from, method, key) {
    return answer(this.env, (world, now) => {
      const kind = billedAs(method);
      if (kind) world.bill.count(kind, from.service, key ?? "");
      if (kind === "r2_class_b" && from.service !== "objects") world.reads.r2 += 1;
      world.bucket.admit(now, method, key);
      return world.bucket.uploaded(key);
    });
  }

  r2Written(key) {
    return answer(this.env, (world, now) => world.bucket.wasWritten(now, key));
  }

  object(from, binding, name, hint) {
    return answer(this.env, (world, now) => {
      world.bill.count("object_requests", from.service, `${binding} ${name}`);
      if (binding === "FLIGHTS") world.boarded += 1;
      return { home: world.objects.admit(now, from.location, binding, name, hint), life: world.life("objects") };
    });
  }

  objectLife() {
    return answer(this.env, (world) => world.life("objects"));
  }

  limit(from, binding, key) {
    return answer(this.env, (world, now) => world.limiters.use(now, from.location, binding, key));
  }

  // `ctx.cache.purge()`.
  purge(from, wanted) {
    return answer(this.env, (world) => world.front.purge(wanted));
  }

  cache(from, method, url, argument) {
    return answer(this.env, (world, now) => {
      const cache = world.caches.get(from.location);
      if (world.settings.workers_dev) return method === "delete" ? false : undefined;
      return cache[method](...(method === "delete" ? [url] : [now, url, argument]));
    });
  }
}

// Everything that isolates count for themselves: rows that objects write, points, lines of logs, and work after the answer.
async function tallies(env) {
  const services = Object.keys(env).filter((name) => name.startsWith("control "));
  return Promise.all(services.map((name) => env[name].tally()));
}

async function bill(world, env) {
  const counts = { ...world.bill.counts(), rows_read: 0, rows_written: 0, log_lines: 0, analytics_points: 0 };
  for (const { rows_read, rows_written, log_lines, points } of await tallies(env)) {
    counts.rows_read += rows_read;
    counts.rows_written += rows_written;
    counts.log_lines += log_lines;
    counts.analytics_points += points.length;
  }
  return counts;
}

async function deploy(world, env) {
  // The version is part of Workers Cache's key.
  world.front = new Front();
  world.lives.set("objects", world.life("objects") + 1);
  await env["control objects"].reset(world.objects.known());
  for (const { name, isolates } of world.settings.locations)
    for (let number = 0; number < isolates; number += 1) end(world, `${name}-${number}`);
}

function end(world, service) {
  const life = world.life(service) + 1;
  if (life >= world.settings.lives) throw new Error(`${service} has no more than ${world.settings.lives} lives`);
  world.lives.set(service, life);
}

//   /.test/kv/<key>, /.test/r2/<key>   PUT, GET, DELETE; /.test/kv lists keys with their metadata
//   /.test/advance?ms=                 moves the clock
//   /.test/bill, /.test/operations     what was charged for so far, as sums and in order
//   /.test/pending                     how many requests and pieces of work after an answer are under way
//   /.test/end?location=&isolate=      ends an isolate; the next request to it finds a new one
//   /.test/deploy                      ends all isolates and resets all objects
//   /.test/boarded, reads, points      requests to flights; reads of KV and R2 without those of objects; points
async function control(world, env, request, url) {
  const [, , what, ...rest] = url.pathname.split("/");
  const key = rest.join("/");
  const now = world.now();
  switch (what) {
    case "advance":
      world.advance(Number(url.searchParams.get("ms")));
      return Response.json(world.now());
    case "bill":
      return Response.json(await bill(world, env));
    case "operations":
      return Response.json(world.bill.operations());
    case "pending":
      return Response.json((await tallies(env)).reduce((sum, tally) => sum + tally.pending, 0));
    case "end":
      end(world, world.isolate(url.searchParams.get("location"), url.searchParams.get("isolate")));
      return new Response("ended");
    case "deploy":
      await deploy(world, env);
      return new Response("deployed");
    case "boarded":
      return Response.json(world.boarded);
    case "reads":
      return Response.json(world.reads);
    case "points":
      return Response.json((await tallies(env)).flatMap((tally) => tally.points));
    case "kv":
      if (request.method === "PUT") {
        const metadata = url.searchParams.get("metadata");
        const value = await request.arrayBuffer();
        world.kv.write(now, undefined, "PUT", key, { value, metadata: metadata && JSON.parse(metadata) });
        return new Response("stored");
      }
      if (request.method === "DELETE") {
        world.kv.write(now, undefined, "DELETE", key, {});
        return new Response("deleted");
      }
      if (!key) return Response.json(world.kv.list(now).keys);
      return new Response(world.kv.peek(now, key)?.value ?? null);
    case "r2":
      if (request.method === "PUT") {
        await env.BLOBS.put(key, await request.arrayBuffer());
        world.bucket.wasWritten(now, key);
        return new Response("stored");
      }
      if (request.method === "DELETE") {
        await env.BLOBS.delete(key);
        return new Response("deleted");
      }
      const object = await env.BLOBS.get(key);
      return new Response(object?.body ?? null, { status: object ? 200 : 404 });
    default:
      return new Response(`there is no ${url.pathname}`, { status: 404 });
  }
}

export default class extends WorkerEntrypoint {
  async fetch(request) {
    const { env } = this;
    const world = state(env);
    const url = new URL(request.url);
    if (url.pathname.startsWith("/.test/")) return control(world, env, request, url);
    const location = request.headers.get("x-test-location") ?? world.settings.locations[0].name;
    const isolate = request.headers.get("x-test-isolate");
    const path = `${request.method} ${url.pathname}`;
    const run = async (asked) => {
      const service = world.isolate(location, isolate);
      world.bill.count("worker_runs", service, path);
      const inner = new Request(asked);
      inner.headers.delete("x-test-location");
      inner.headers.delete("x-test-isolate");
      inner.headers.set("x-test-now", world.now());
      inner.headers.set("x-test-life", world.life(service));
      return env[service].fetch(inner);
    };
    world.bill.count("worker_requests", location, path);
    if (!world.settings.workers_cache) return run(request);
    const later = (work) => this.ctx.waitUntil(work);
    return world.front.answer(request, location, { now: () => world.now(), run, later });
  }
}
