// What an answer's headers say about keeping it (RFC 9111, and what Cloudflare's documentation adds).

// For how many seconds answers without Cache-Control are kept.
const HEURISTIC = { 200: 7200, 203: 7200, 204: 7200, 300: 1200, 301: 1200, 404: 180, 405: 60, 410: 180, 414: 60, 501: 60 };

export function directives(text) {
  const parts = (text ?? "").toLowerCase().split(",").map((part) => part.trim()).filter(Boolean);
  return new Map(parts.map((part) => part.split("=")).map(([name, value]) => [name, value ?? true]));
}

const seconds = (known, name) => (known.has(name) ? Number(known.get(name)) || 0 : undefined);

// For how many seconds the Cache API keeps an answer. Undefined if its headers do not say so.
export function sharedSeconds(headers) {
  const known = directives(headers["cache-control"]);
  if (["no-store", "private", "no-cache"].some((name) => known.has(name))) return 0;
  return seconds(known, "s-maxage") ?? seconds(known, "max-age");
}

// How Workers Cache keeps the answer to a request: { fresh, whileRevalidate, ifError } in seconds, or undefined if it
// does not.
export function lifetime(request, { status, headers }) {
  const named = ["cloudflare-cdn-cache-control", "cdn-cache-control", "cache-control"].find((name) => headers.has(name));
  const known = directives(named && headers.get(named));
  const has = (name) => known.has(name);
  if (status === 206 || status === 304 || (status >= 520 && status <= 526)) return undefined;
  if (has("no-store") || has("private") || headers.has("set-cookie")) return undefined;
  if ((headers.get("vary") ?? "").includes("*")) return undefined;
  if (request.headers.has("authorization") && !["public", "must-revalidate", "s-maxage"].some(has)) return undefined;
  let fresh = has("no-cache") ? 0 : (seconds(known, "s-maxage") ?? seconds(known, "max-age"));
  // Directives that say nothing of time leave it to the cache.
  fresh ??= HEURISTIC[status];
  if (fresh === undefined) return undefined;
  const isStrict = ["s-maxage", "must-revalidate", "proxy-revalidate"].some(has);
  return {
    fresh,
    whileRevalidate: isStrict ? 0 : (seconds(known, "stale-while-revalidate") ?? 0),
    ifError: isStrict ? 0 : (seconds(known, "stale-if-error") ?? Infinity),
  };
}
