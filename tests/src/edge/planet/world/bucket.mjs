// What a bucket refuses, what it charges, and when its objects were written. The objects themselves are in Miniflare's
// bucket.

const SECOND = 1000;

export class Bucket {
  // When each key was last written by a Worker, whether or not that changed anything.
  #attempts = new Map();
  #uploaded = new Map();
  #isStrict;

  constructor({ isStrict }) {
    this.#isStrict = isStrict;
  }

  // Admits an operation, or throws.
  admit(now, method, key) {
    if (method !== "put" || !this.#isStrict) return;
    const last = this.#attempts.get(key);
    if (last !== undefined && now - last < SECOND) throw new Error("put: Reduce your concurrent request rate for the same object. (10058)");
    this.#attempts.set(key, now);
  }

  uploaded(key) {
    return this.#uploaded.get(key);
  }

  wasWritten(now, key) {
    this.#uploaded.set(key, now);
  }
}

// Under which name an operation is billed. Deleting is free.
export const billedAs = (method) => ({ get: "r2_class_b", head: "r2_class_b", put: "r2_class_a", list: "r2_class_a" })[method];
