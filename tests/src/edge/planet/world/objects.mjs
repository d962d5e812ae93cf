// The Durable Objects: where each one lives, and how many requests it has had this second.

const SECOND = 1000;

export class Objects {
  #homes = new Map();
  #seconds = new Map();
  #rate;

  // `rate` is the number of requests that one object takes in a second.
  constructor({ rate }) {
    this.#rate = rate;
  }

  // Admits a request to an object. Returns the location where it lives: where it was first asked for, or as hinted
  // then.
  admit(now, location, binding, name, hint) {
    const object = `${binding} ${name}`;
    if (!this.#homes.has(object)) this.#homes.set(object, hint ?? location);
    let second = this.#seconds.get(object);
    if (!second || now - second.since >= SECOND) {
      second = { since: now, requests: 0 };
      this.#seconds.set(object, second);
    }
    second.requests += 1;
    if (second.requests > this.#rate) {
      const error = new Error("Durable Object is overloaded. Too many requests queued.");
      throw Object.assign(error, { overloaded: true });
    }
    return this.#homes.get(object);
  }

  // The names of all objects by binding.
  known() {
    return [...this.#homes.keys()].map((object) => {
      const end = object.indexOf(" ");
      return { binding: object.slice(0, end), name: object.slice(end + 1) };
    });
  }
}
