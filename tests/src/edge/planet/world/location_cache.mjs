// The Cache API of one location. Answers are kept as long as their Cache-Control says.
import { sharedSeconds } from "./cache_control.mjs";

const SECOND = 1000;

export class LocationCache {
  #entries = new Map();

  match(now, url) {
    const entry = this.#entries.get(url);
    if (!entry || entry.until <= now) {
      this.#entries.delete(url);
      return undefined;
    }
    return entry.answer;
  }

  put(now, url, answer) {
    if (answer.status === 206) throw new TypeError("Cannot cache response to a range request (206 Partial Content).");
    if (answer.headers.vary?.includes("*")) throw new TypeError("Cannot cache response with 'Vary: *' header.");
    const seconds = sharedSeconds(answer.headers);
    if (!seconds || answer.headers["set-cookie"]) return;
    this.#entries.set(url, { until: now + seconds * SECOND, answer });
  }

  delete(url) {
    return this.#entries.delete(url);
  }
}
