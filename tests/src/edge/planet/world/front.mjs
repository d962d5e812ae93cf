// Workers Cache, which stands before the Worker if its configuration says so.
//
// Two tiers: a cache at each location, and one behind them. What neither has, the Worker answers, once for all clients
// that wait for the same. A HEAD becomes a GET for that. The key is path and query; the host and the method are not in it.
import { lifetime } from "./cache_control.mjs";

const SECOND = 1000;
// In real time: how often a waiting request looks whether the one that it waits for is done.
const POLL_MILLISECONDS = 5;

const STRIPPED = ["cache-tag", "cloudflare-cdn-cache-control"];
// Two requests that differ in one of these share nothing.
const POISONOUS = [
  "x-http-method-override",
  "x-http-method",
  "x-method-override",
  "x-forwarded-host",
  "x-host",
  "x-forwarded-scheme",
  "x-original-url",
  "x-rewrite-url",
  "forwarded",
];

const wait = () => new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));

export class Front {
  // Key to the variants of the answer, at each location and behind them.
  #upper = new Map();
  #lower = new Map();
  // The keys that the Worker is being asked for.
  #asked = new Set();

  // Answers a request that arrives at a location. `now` says what time it is; `run` has the Worker answer a request;
  // `later` does work after the answer.
  async answer(request, location, { now, run, later }) {
    const isCacheable = ["GET", "HEAD"].includes(request.method) && !request.headers.has("upgrade");
    if (!isCacheable) return this.#labelled(await run(request), "BYPASS");
    const key = keyOf(request);
    for (;;) {
      const entry = this.#find(key, request, location, now());
      const age = entry && now() - entry.stored;
      if (entry && age < entry.fresh) return this.#serve(entry, request, now(), "HIT");
      if (entry && age < entry.fresh + entry.whileRevalidate) {
        if (!this.#asked.has(key)) later(this.#refresh(key, request, location, entry, { now, run }));
        return this.#serve(entry, request, now(), "UPDATING");
      }
      if (!this.#asked.has(key)) return this.#fill(key, request, location, entry, { now, run });
      while (this.#asked.has(key)) await wait();
      // If there is nothing now, the answer could not be kept: each request gets its own.
      if (!this.#find(key, request, location, now())) return this.#fill(key, request, location, undefined, { now, run });
    }
  }

  async #refresh(key, request, location, entry, means) {
    const answer = await this.#fill(key, request, location, entry, means);
    await answer.body?.cancel();
  }

  // Has the Worker answer, and keeps the answer if that is allowed.
  async #fill(key, request, location, stale, { now, run }) {
    this.#asked.add(key);
    try {
      const asked = new Request(request, { method: "GET" });
      if (stale?.etag) asked.headers.set("if-none-match", stale.etag);
      const answer = await run(asked).catch((error) => {
        if (!stale) throw error;
        return new Response(null, { status: 500 });
      });
      if (stale?.etag && answer.status === 304) {
        stale.stored = now();
        return this.#serve(stale, request, now(), "REVALIDATED");
      }
      if (stale && answer.status >= 500 && now() - stale.stored < stale.fresh + stale.ifError) return this.#serve(stale, request, now(), "STALE");
      const life = lifetime(request, answer);
      if (!life) return this.#labelled(request.method === "HEAD" ? withoutBody(answer) : answer, "BYPASS");
      const entry = await kept(request, answer, life, now());
      this.#keep(this.#upper, key, entry);
      this.#keep(this.#at(location), key, entry);
      return this.#serve(entry, request, now(), stale ? "EXPIRED" : "MISS");
    } finally {
      this.#asked.delete(key);
    }
  }

  #at(location) {
    if (!this.#lower.has(location)) this.#lower.set(location, new Map());
    return this.#lower.get(location);
  }

  #keep(tier, key, entry) {
    const variants = (tier.get(key) ?? []).filter((other) => other.variant !== entry.variant);
    tier.set(key, [...variants, entry]);
  }

  #find(key, request, location, now) {
    const suits = (entry) => entry.varies.every(([name, value]) => (request.headers.get(name) ?? "") === value);
    const lower = this.#at(location);
    const near = lower.get(key)?.find(suits);
    if (near && now - near.stored < near.fresh) return near;
    const far = this.#upper.get(key)?.find(suits);
    if (far) this.#keep(lower, key, far);
    return far ?? near;
  }

  #serve(entry, request, now, status) {
    const headers = new Headers(entry.headers);
    headers.set("age", Math.floor((now - entry.stored) / SECOND));
    const known = request.headers.get("if-none-match");
    if (entry.etag && known?.split(",").some((tag) => tag.trim().replace(/^W\//, "") === entry.etag)) {
      headers.delete("content-length");
      return this.#labelled(new Response(null, { status: 304, headers }), status);
    }
    const range = entry.status === 200 && rangeOf(request.headers.get("range"), entry.body.byteLength);
    if (range) {
      headers.set("content-range", `bytes ${range.start}-${range.end - 1}/${entry.body.byteLength}`);
      headers.set("content-length", range.end - range.start);
      const body = request.method === "HEAD" ? null : entry.body.slice(range.start, range.end);
      return this.#labelled(new Response(body, { status: 206, headers }), status);
    }
    headers.set("content-length", entry.body.byteLength);
    const hasBody = request.method !== "HEAD" && ![204, 304].includes(entry.status);
    return this.#labelled(new Response(hasBody ? entry.body : null, { status: entry.status, headers }), status);
  }

  #labelled(answer, status) {
    const labelled = new Response(answer.body, answer);
    labelled.headers.set("cf-cache-status", status);
    for (const name of STRIPPED) labelled.headers.delete(name);
    return labelled;
  }

  // Removes what has one of the tags or a path that begins with one of the prefixes, everywhere.
  purge({ tags = [], pathPrefixes = [], purgeEverything = false }) {
    const unwanted = new Set(tags.map((tag) => tag.toLowerCase()));
    const goes = (entry) =>
      purgeEverything || entry.tags.some((tag) => unwanted.has(tag)) || pathPrefixes.some((prefix) => entry.path.startsWith(prefix));
    for (const tier of [this.#upper, ...this.#lower.values()])
      // Variants go together.
      for (const [key, variants] of tier) if (variants.some(goes)) tier.delete(key);
    return { success: true, errors: [] };
  }
}

function keyOf(request) {
  const { pathname, search } = new URL(request.url);
  const poison = POISONOUS.map((name) => request.headers.get(name)).filter((value) => value !== null);
  return JSON.stringify([pathname + search, ...poison]);
}

async function kept(request, answer, { fresh, whileRevalidate, ifError }, now) {
  const names = (answer.headers.get("vary") ?? "").toLowerCase().split(",").map((name) => name.trim()).filter(Boolean).sort();
  const varies = names.map((name) => [name, request.headers.get(name) ?? ""]);
  const { pathname } = new URL(request.url);
  const tags = (answer.headers.get("cache-tag") ?? "").toLowerCase().split(",").map((tag) => tag.trim()).filter(Boolean);
  const headers = [...answer.headers];
  const body = await answer.arrayBuffer();
  return {
    status: answer.status,
    headers,
    body,
    etag: answer.headers.get("etag"),
    path: pathname,
    tags,
    varies,
    variant: JSON.stringify(varies),
    stored: now,
    fresh: fresh * SECOND,
    whileRevalidate: whileRevalidate * SECOND,
    ifError: ifError * SECOND,
  };
}

const withoutBody = (answer) => {
  answer.body?.cancel();
  return new Response(null, answer);
};

// A single range of bytes that lies within the length.
function rangeOf(text, length) {
  const match = /^bytes=(\d*)-(\d*)$/.exec(text ?? "");
  if (!match || (!match[1] && !match[2])) return undefined;
  const start = match[1] ? Number(match[1]) : Math.max(0, length - Number(match[2]));
  const end = match[1] && match[2] ? Math.min(length, Number(match[2]) + 1) : length;
  return start < end ? { start, end } : undefined;
}
