// The Cache API of one location. Answers are kept as long as their Cache-Control says.

const SECOND = 1000;

// For how many seconds a shared cache may keep an answer. Undefined where its headers do not say so.
export function sharedSeconds(headers) {
  const directives = (headers["cache-control"] ?? "").toLowerCase().split(",").map((text) => text.trim());
  if (directives.some((text) => ["no-store", "private", "no-cache"].includes(text.split("=")[0]))) return 0;
  for (const name of ["s-maxage", "max-age"]) {
    const found = directives.find((text) => text.startsWith(`${name}=`));
    if (found) return Number(found.slice(name.length + 1)) || 0;
  }
  return undefined;
}

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
