// An isolate of the Worker at a location. The bindings are what the world makes of them.
import { WorkerEntrypoint, env } from "cloudflare:workers";
import { asker, bindings, checkFaults } from "./bindings.mjs";
import { moveTimers, setClock } from "./clock.mjs";
import { Invocation, subrequest } from "./invocation.mjs";
import { useCache } from "./network.mjs";
import { pending, tally } from "./tally.mjs";

const { location, service } = env.PLACE;
const ask = asker(env, { location, service });
useCache(ask);
if (env.SETTINGS.standing) moveTimers(() => ask("clock"));
const known = bindings(env, ask);

// What the world asks.
export class Control extends WorkerEntrypoint {
  tally() {
    return tally;
  }
}

export default class extends WorkerEntrypoint {
  async fetch(request) {
    const header = (name) => request.headers.get(name);
    setClock(Number(header("x-test-now")), env.SETTINGS.standing);
    const faults = (header("x-test-fault") ?? "").split(",").filter(Boolean);
    checkFaults(faults);
    // Each life has a module, and thereby a memory, of its own.
    const { default: Inner } = await import(`../life${header("x-test-life")}/index.js`);
    const inner = new Inner(this.ctx, known);
    const { ctx } = this;
    const context = {
      waitUntil: (work) => ctx.waitUntil(pending(() => work)),
      passThroughOnException: () => {},
      props: {},
      cache: { purge: (wanted) => subrequest(() => ask("purge", wanted)) },
    };
    Object.defineProperty(inner, "ctx", { value: context });
    return new Invocation(faults).run(() => pending(async () => inner.fetch(request)));
  }
}
