// What Cloudflare charges for, counted.

export class Bill {
  #counts = {};
  // What was done, in order: for a test that finds another count than it expects.
  #operations = [];

  count(kind, where, what) {
    this.#counts[kind] = (this.#counts[kind] ?? 0) + 1;
    this.#operations.push(`${kind} ${where} ${what}`);
  }

  counts() {
    return { ...this.#counts };
  }

  operations() {
    return this.#operations;
  }
}
