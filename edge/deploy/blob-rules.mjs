#!/usr/bin/env node
// Sends clients of a public registry from the registry's domain straight to the bucket's: a redirect rule in front of
// the Worker, which costs nothing, and a cache rule for the bucket's domain. Needs Node 20 and nothing else.
import { Api } from "./cloudflare-api.mjs";
import { Refusal } from "./refusal.mjs";
import { placeOfBlobs, whoAnswers } from "./registry.mjs";
import { cacheRule, redirectRule, rulesOf } from "./rules.mjs";

const USAGE = `usage: node blob-rules.mjs COMMAND REGISTRY [--blobs URL]

REGISTRY is the address that clients pull from, such as https://firn.example. The Worker must be deployed there, with
FIRN_ACCESS=public and FIRN_BLOBS=public. The script asks it where blobs are.

  print    print both rules as JSON; changes nothing and needs no token
  plan     say what apply would do, and have Cloudflare check the rules without storing them
  apply    create or update the rules, and switch on the tiered cache of the bucket's zone
  check    say who answers requests for blobs: the rule or the Worker
  remove   delete both rules; --blobs is only needed if the redirect rule is gone already

  --blobs URL   the value of FIRN_BLOBS_URL, so that the Worker need not be asked (for print and remove)

CLOUDFLARE_API_TOKEN must hold a token for both zones with the permissions Zone: Read, Single Redirect: Edit,
Cache Rules: Edit and Zone Settings: Edit. "wrangler login" does not give these.`;

async function main(words) {
    if (words.includes("--help") || words.includes("-h")) return say(USAGE);
    const options = read(words);
    const registry = url("REGISTRY", options.registry);
    if (registry.pathname !== "/") throw new Refusal("REGISTRY is a host: the registry has no path");
    if (registry.hostname.endsWith(".workers.dev")) {
        throw new Refusal("workers.dev has no rules: deploy to a domain of your own (wrangler deploy --domain)");
    }
    if (options.command === "remove") return remove(registry, options.blobs);
    if (options.command === "check") return say(await whoAnswers(registry));
    const blobs = options.blobs ? url("--blobs", options.blobs) : await placeOfBlobs(registry);
    const rules = rulesOf(registry, blobs);
    if (options.command === "print") return say(JSON.stringify(rules, undefined, 2));
    return apply(registry, blobs, rules, options.command === "plan");
}

async function apply(registry, blobs, rules, dryRun) {
    const api = Api.of(process.env, dryRun);
    say(`${registry.hostname} is public and sends clients to ${blobs.href.replace(/\/$/, "")}`);
    const former = await bucketOfRule(api, registry);
    // The cache comes first: as soon as the redirect exists, clients arrive at the bucket.
    for (const rule of rules) {
        const zone = await api.zoneOf(rule.host);
        say(`${rule.name} in the zone ${zone.name}: ${await api.put(zone, rule)}`);
        for (const [name, text] of Object.entries(rule.shown)) say(`    ${name}  ${text}`);
    }
    if (former && former.hostname !== blobs.hostname) await forget(api, registry, former);
    const zone = await api.zoneOf(blobs.hostname);
    for (const [name, state] of await api.tieredCache(zone)) say(`${name} of the zone ${zone.name}: ${state}`);
    say(dryRun ? "Cloudflare accepts this; nothing was changed" : `try: node blob-rules.mjs check ${registry.origin}`);
}

async function remove(registry, given) {
    const api = Api.of(process.env, false);
    const place = given ?? (await bucketOfRule(api, registry))?.href;
    const zone = await api.zoneOf(registry.hostname);
    // Clients must no longer be sent to the bucket when its cache goes. The rule's name does not depend on the bucket.
    const rule = redirectRule(registry, new URL("https://bucket.invalid"));
    say(`redirect rule in the zone ${zone.name}: ${await api.remove(zone, rule)}`);
    if (!place) throw new Refusal("there was no redirect rule, so say which bucket: --blobs FIRN_BLOBS_URL");
    await forget(api, registry, url("--blobs", place));
    say("the tiered cache stays as it is: it belongs to the whole zone");
}

/** Where the redirect rule sends clients now; undefined if there is none. */
async function bucketOfRule(api, registry) {
    const zone = await api.zoneOf(registry.hostname);
    const rule = await api.find(zone, redirectRule(registry, new URL("https://bucket.invalid")));
    const target = rule?.action_parameters.from_value.target_url.expression;
    const place = target?.match(/"(https:[^"]*)\/blobs\/sha256\/"/)?.[1];
    return place && new URL(place);
}

/** Removes the cache rule of a bucket that is used no longer. */
async function forget(api, registry, bucket) {
    const zone = await api.zoneOf(bucket.hostname);
    say(`cache rule in the zone ${zone.name}: ${await api.remove(zone, cacheRule(registry, bucket))}`);
}

function read(words) {
    const commands = ["print", "plan", "apply", "check", "remove"];
    const options = { plain: [] };
    for (let i = 0; i < words.length; i++) {
        if (words[i] === "--blobs") options.blobs = words[++i] ?? "";
        else options.plain.push(words[i]);
    }
    [options.command, options.registry] = options.plain;
    if (options.plain.length !== 2 || !commands.includes(options.command)) throw new Refusal(USAGE);
    if (options.blobs !== undefined && !["print", "remove"].includes(options.command)) {
        throw new Refusal("only print and remove take --blobs: the other commands ask the Worker itself");
    }
    return options;
}

function url(name, text) {
    if (!URL.canParse(text)) throw new Refusal(`${name} is not a URL: ${text}`);
    const url = new URL(text);
    const onThisMachine = ["127.0.0.1", "localhost"].includes(url.hostname);
    if (url.protocol !== "https:" && !onThisMachine) {
        throw new Refusal(`${name} must begin with https://: clients refuse anything else`);
    }
    if (url.search || url.hash || url.username) throw new Refusal(`${name} has more than a host and a path: ${text}`);
    return url;
}

function say(line) {
    process.stdout.write(`${line}\n`);
}

main(process.argv.slice(2)).catch((error) => {
    process.stderr.write(`${error instanceof Refusal ? error.message : error.stack}\n`);
    process.exitCode = error.message === USAGE ? 2 : 1;
});
