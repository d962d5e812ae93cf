// One request to a Worker or to a Durable Object, and what it may do: so many subrequests, of which six may wait for
// their answers at once. A seventh waits until one of them is answered.
import { AsyncLocalStorage } from "node:async_hooks";
import { env } from "cloudflare:workers";

const CONNECTIONS = 6;
const invocations = new AsyncLocalStorage();

export class Invocation {
  #made = 0;
  #open = 0;
  #waiting = [];

  constructor(faults = []) {
    this.faults = new Set(faults);
  }

  async subrequest(work) {
    this.#made += 1;
    if (this.#made > env.SETTINGS.subrequests) throw new Error("Too many subrequests by single Worker invocation.");
    if (this.#open < CONNECTIONS) this.#open += 1;
    else await new Promise((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#open -= 1;
    }
  }

  run(work) {
    return invocations.run(this, work);
  }
}

// What is not part of any invocation is not limited.
const stray = new Invocation();

export const current = () => invocations.getStore() ?? stray;

// A subrequest of the current invocation.
export const subrequest = (work) => current().subrequest(work);
