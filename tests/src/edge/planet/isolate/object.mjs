// The Durable Objects' classes, in an isolate of their own. Each object lives at a location, whose view of KV it has.
import { DurableObject, WorkerEntrypoint, env } from "cloudflare:workers";
import { asker, bindings } from "./bindings.mjs";
import { moveTimers } from "./clock.mjs";
import { Invocation } from "./invocation.mjs";
import { useCache } from "./network.mjs";
import { pending, tally } from "./tally.mjs";

// The Cache API is the one of the first location: which one an object has is not defined.
const somewhere = asker(env, { location: env.SETTINGS.locations[0].name, service: "objects" });
useCache(somewhere);
if (env.SETTINGS.standing) moveTimers(() => somewhere("clock"));

let life = 0;

// Storage that counts rows. Each key is one.
function counted(storage) {
  const rows = { get: "rows_read", list: "rows_read", put: "rows_written", delete: "rows_written", setAlarm: "rows_written" };
  return new Proxy(storage, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (name === "sql") return countedSql(value);
      if (typeof value !== "function") return value;
      return (...rest) => {
        if (rows[name]) tally[rows[name]] += typeof rest[0] === "object" ? Object.keys(rest[0]).length : 1;
        return value.apply(target, rest);
      };
    },
  });
}

const countedSql = (sql) =>
  new Proxy(sql, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (name !== "exec") return typeof value === "function" ? value.bind(target) : value;
      return (...rest) => {
        const cursor = target.exec(...rest);
        tally.rows_written += cursor.rowsWritten;
        tally.rows_read += cursor.rowsRead;
        return cursor;
      };
    },
  });

function context(ctx) {
  const storage = counted(ctx.storage);
  return new Proxy(ctx, {
    get(target, name) {
      if (name === "storage") return storage;
      if (name === "waitUntil") return (work) => target.waitUntil(pending(() => work));
      const value = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

// The class of this name, as the Worker exports it.
export const object = (name) =>
  class extends DurableObject {
    #inner;

    async fetch(request) {
      if (request.headers.has("x-test-reset")) this.ctx.abort("reset");
      const location = request.headers.get("x-test-location");
      const ask = asker(env, { location, service: "objects" });
      await ask("clock");
      this.#inner ??= this.#start(bindings(env, ask));
      const inner = await this.#inner;
      return new Invocation().run(() => pending(async () => inner.fetch(request)));
    }

    async alarm() {
      this.#inner ??= this.#start(bindings(env, somewhere));
      return (await this.#inner).alarm();
    }

    async #start(known) {
      const module = await import(`../life${life}/index.js`);
      return new module[name](context(this.ctx), known);
    }
  };

export class Control extends WorkerEntrypoint {
  tally() {
    return tally;
  }

  // Ends all objects. What they have stored stays.
  async reset(objects) {
    life += 1;
    for (const { binding, name } of objects) {
      const request = new Request("https://object/", { headers: { "x-test-reset": "1" } });
      await env[binding].getByName(name).fetch(request).catch(() => {});
    }
  }
}
