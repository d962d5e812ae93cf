// Rate limits. Each location counts for itself, and all its isolates together.

const MINUTE = 60_000;

export class Limiters {
  #windows = new Map();
  #limits;

  // How many uses each binding allows in a minute.
  constructor(limits) {
    this.#limits = limits;
  }

  use(now, location, binding, key) {
    const place = `${location} ${binding} ${key}`;
    let window = this.#windows.get(place);
    if (!window || now - window.since >= MINUTE) {
      window = { since: now, uses: 0 };
      this.#windows.set(place, window);
    }
    window.uses += 1;
    return { success: window.uses <= this.#limits[binding] };
  }
}
