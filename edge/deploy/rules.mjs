// The two rules, in Cloudflare's Rules language. Only functions that every plan has: no regular expressions.

import { Refusal } from "./refusal.mjs";

// `/v2/` NAME `/blobs/sha256:` DIGITS; the shortest name has one character.
const MARK = "/blobs/sha256:";
const DIGITS = 64;
const SHORTEST = "/v2/x".length + MARK.length + DIGITS;
// How long the CDN keeps a blob, in seconds: 30 days. A blob never changes, so only space speaks against more.
const CACHE_SECONDS = 30 * 24 * 3600;

/** Both rules, in the order in which they are created. */
export function rulesOf(registry, blobs) {
    refuseSubdomain(registry, blobs);
    return [cacheRule(registry, blobs), redirectRule(registry, blobs)];
}

/**
 * Redirects GET of a blob to where the Worker would redirect it: `blobs/sha256/<2 digits>/<64 digits>` below the
 * bucket's URL, whose path is the prefix of the backend's storage. HEAD stays with the Worker, as do digests that are
 * not well-formed or have an escaped colon. Queries (`?ns=`) do not reach the bucket.
 */
export function redirectRule(registry, blobs) {
    const path = "http.request.uri.path";
    const digits = `substring(${path}, -${DIGITS})`;
    const expression = [
        `http.host eq ${literal(registry.hostname)}`,
        `http.request.method eq "GET"`,
        // Before the others: they need a path of this length.
        `len(${path}) ge ${SHORTEST}`,
        `starts_with(${path}, "/v2/")`,
        `substring(${path}, -${MARK.length + DIGITS}, -${DIGITS}) eq ${literal(MARK)}`,
        `len(remove_bytes(${digits}, "0123456789abcdef")) eq 0`,
    ].join(" and ");
    const first = `substring(${path}, -${DIGITS}, -${DIGITS - 2})`;
    const target = `concat(${literal(`${base(blobs)}/blobs/sha256/`)}, ${first}, "/", ${digits})`;
    return {
        name: "redirect rule",
        host: registry.hostname,
        phase: "http_request_dynamic_redirect",
        shown: { if: expression, then: `307 to ${target}` },
        rule: {
            ref: reference("firn_blobs", registry),
            description: `Firn: blobs of ${registry.hostname} come from ${base(blobs)} (blob-rules.mjs)`,
            expression,
            action: "redirect",
            action_parameters: {
                from_value: { target_url: { expression: target }, status_code: 307, preserve_query_string: false },
            },
            enabled: true,
        },
    };
}

/** Makes the CDN keep blobs, although their names have no extension, and never the answer that there is none. */
export function cacheRule(registry, blobs) {
    const folder = `${new URL(base(blobs)).pathname.replace(/\/$/, "")}/blobs/sha256/`;
    const below = `starts_with(http.request.uri.path, ${literal(folder)})`;
    const expression = `http.host eq ${literal(blobs.hostname)} and ${below}`;
    return {
        name: "cache rule",
        host: blobs.hostname,
        phase: "http_request_cache_settings",
        shown: { if: expression, then: `cache for ${CACHE_SECONDS / 86400} days, errors never` },
        rule: {
            ref: reference("firn_blobs_cache", registry),
            description: `Firn: the CDN keeps blobs of ${registry.hostname} (blob-rules.mjs)`,
            expression,
            action: "set_cache_settings",
            action_parameters: {
                cache: true,
                edge_ttl: {
                    mode: "override_origin",
                    default: CACHE_SECONDS,
                    // -1 is no-store. A blob that was missing may be there a second later.
                    status_code_ttl: [{ status_code_range: { from: 400 }, value: -1 }],
                },
                browser_ttl: { mode: "respect_origin" },
            },
            enabled: true,
        },
    };
}

/** The name by which the script finds its own rules again. Other rules are never touched. */
function reference(kind, registry) {
    return `${kind}_${registry.hostname.replaceAll(/[^a-z0-9]/g, "_")}`;
}

/** The bucket's URL without a trailing slash. */
function base(blobs) {
    return blobs.href.replace(/\/+$/, "");
}

/** A literal of the Rules language. The characters of a host or of a path of a URL need no escapes. */
function literal(text) {
    if (/["\\\x00-\x1f]/.test(text)) throw new Refusal(`cannot stand in a rule: ${text}`);
    return `"${text}"`;
}

/** Go clients send the registry's credentials to its subdomains too. */
function refuseSubdomain(registry, blobs) {
    const [bucket, host] = [blobs.hostname, registry.hostname];
    if (bucket === host) throw new Refusal("the bucket needs a domain of its own, not the registry's");
    if (bucket.endsWith(`.${host}`)) {
        throw new Refusal(`${bucket} is below the registry, and clients send credentials there: use a sibling`);
    }
}
