// One KV namespace as the locations see it.
//
// A location keeps what it has read for a minute, also that there is nothing. What was written elsewhere it sees a
// minute later; that is the longest that Cloudflare's documentation admits, and each write here takes it. A key takes
// one write a second.

const SECOND = 1000;
const PROPAGATION = 60 * SECOND;
const MAX_KEY = 512;
const MAX_METADATA = 1024;
const MAX_VALUE = 25 << 20;
const PAGE = 1000;

const bytes = (text) => new TextEncoder().encode(text).length;

class Refusal extends Error {}

const refuse = (method, status, reason) => {
  throw new Refusal(`KV ${method} failed: ${status} ${reason}`);
};

export class Namespace {
  // Each key's values, oldest first: { time, location, value, metadata, expiration }. One without a value says that
  // the key was deleted.
  #versions = new Map();
  // What each location has read: location and key to { until, version }.
  #views = new Map();
  #isStrict;

  constructor({ isStrict }) {
    this.#isStrict = isStrict;
  }

  read(now, location, method, key, cacheSeconds = 60) {
    if (bytes(key) > MAX_KEY) refuse(method, 414, `UTF-8 encoded length of ${bytes(key)} exceeds key length limit of ${MAX_KEY}.`);
    if (cacheSeconds < 30) refuse(method, 400, `Invalid cache_ttl of ${cacheSeconds}. Cache TTL must be at least 30.`);
    const place = `${location} ${key}`;
    let view = this.#views.get(place);
    if (!view || view.until <= now || !this.#isStrict) {
      view = { until: now + cacheSeconds * SECOND, version: this.#visible(now, location, key) };
      this.#views.set(place, view);
    }
    return this.#alive(now, view.version) ?? { value: null, metadata: null };
  }

  write(now, location, method, key, version) {
    if (bytes(key) > MAX_KEY) refuse(method, 414, `UTF-8 encoded length of ${bytes(key)} exceeds key length limit of ${MAX_KEY}.`);
    if (key === "" || key === "." || key === "..") refuse(method, 400, "Key name cannot be empty, . or ..");
    const { value, metadata, expirationTtl } = version;
    if (value?.byteLength > MAX_VALUE) refuse(method, 413, `Value length of ${value.byteLength} exceeds limit of ${MAX_VALUE}.`);
    if (metadata && bytes(JSON.stringify(metadata)) > MAX_METADATA) refuse(method, 413, `Metadata exceeds limit of ${MAX_METADATA}.`);
    if (expirationTtl < 60) refuse(method, 400, `Invalid expiration_ttl of ${expirationTtl}. Expiration TTL must be at least 60.`);
    const last = this.#versions.get(key)?.at(-1);
    const isFromTest = location === undefined;
    if (this.#isStrict && !isFromTest && last && last.location !== undefined && now - last.time < SECOND) refuse(method, 429, "Too Many Requests");
    this.#put(now, location, key, { value, metadata: metadata ?? null, expiration: expirationTtl && Math.floor(now / SECOND) + expirationTtl });
    // What a test puts was there all the time.
    if (isFromTest) for (const place of this.#views.keys()) if (place.slice(place.indexOf(" ") + 1) === key) this.#views.delete(place);
  }

  #put(now, location, key, version) {
    const versions = this.#versions.get(key) ?? [];
    versions.push({ ...version, time: now, location });
    this.#versions.set(key, versions);
  }

  // The keys that a location sees, a page of them.
  list(now, location, { prefix = "", limit = PAGE, cursor } = {}) {
    const names = [...this.#versions.keys()].filter((name) => name.startsWith(prefix) && (!cursor || name > cursor)).sort();
    const keys = [];
    for (const name of names) {
      const version = this.#alive(now, this.#visible(now, location, name));
      if (!version) continue;
      if (keys.length === limit) return { keys, list_complete: false, cursor: keys.at(-1).name };
      const { metadata, expiration } = version;
      keys.push({ name, ...(expiration ? { expiration } : {}), ...(metadata ? { metadata } : {}) });
    }
    return { keys, list_complete: true };
  }

  // The newest value that a location can see. A test, which has no location, sees all.
  #visible(now, location, key) {
    const isVisible = (version) =>
      !this.#isStrict || location === undefined || version.location === undefined || version.location === location || version.time + PROPAGATION <= now;
    return this.#versions.get(key)?.findLast(isVisible);
  }

  #alive(now, version) {
    if (!version?.value || (version.expiration && version.expiration * SECOND <= now)) return undefined;
    return version;
  }

  // The newest value for a test.
  peek(now, key) {
    return this.#alive(now, this.#visible(now, undefined, key));
  }
}
