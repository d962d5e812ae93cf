// Plays the part of Cloudflare's API that edge/deploy/blob-rules.mjs uses, and remembers what was asked. It refuses
// what Cloudflare refuses: a wrong token, unknown members, expressions that are not of the Rules language, too many
// rules.
import { createServer } from "node:http";
import { typeOf } from "./rules-language.mjs";

export const TOKEN = "a-token-with-four-permissions";
// The free plan's limit.
const MOST_RULES = 10;
const PHASES = {
    http_request_dynamic_redirect: { action: "redirect", check: checkRedirect },
    http_request_cache_settings: { action: "set_cache_settings", check: checkCache },
};

export class CloudflareApi {
    /** Every request that was not a GET: `METHOD path`. */
    writes = [];
    /** Zone → phase → ruleset. */
    rulesets = new Map();
    /** Zone → setting → value. */
    settings = new Map();
    #ids = 0;

    /** An API with these zones. */
    static async start(zones) {
        const api = new CloudflareApi();
        for (const zone of zones) {
            api.rulesets.set(zone, new Map());
            api.settings.set(zone, { "argo/tiered_caching": "off", "cache/tiered_cache_smart_topology_enable": "off" });
        }
        api.server = createServer((request, response) => api.#serve(request, response));
        await new Promise((ready) => api.server.listen(0, "127.0.0.1", ready));
        api.address = `http://127.0.0.1:${api.server.address().port}/client/v4`;
        return api;
    }

    /** The rules of a zone in a phase. */
    rules(zone, phase) {
        return this.rulesets.get(zone).get(phase)?.rules ?? [];
    }

    /** Puts a rule of somebody else there. */
    addForeignRule(zone, phase) {
        const ruleset = { id: this.#id(), kind: "zone", phase, rules: [] };
        ruleset.rules.push({ id: this.#id(), ref: "somebody_elses", action: PHASES[phase].action, expression: "true" });
        this.rulesets.get(zone).set(phase, ruleset);
    }

    #id() {
        return (++this.#ids).toString(16).padStart(32, "0");
    }

    async #serve(request, response) {
        const chunks = [];
        for await (const chunk of request) chunks.push(chunk);
        const answer = (status, result, errors = []) => {
            response.writeHead(status, { "content-type": "application/json" });
            if (status === 204) return response.end();
            response.end(JSON.stringify({ success: errors.length === 0, result, errors, messages: [] }));
        };
        const refuse = (status, code, message) => answer(status, null, [{ code, message }]);
        if (request.headers.authorization !== `Bearer ${TOKEN}`) return refuse(401, 10000, "Authentication error");
        const url = new URL(request.url, this.address);
        const path = url.pathname.replace("/client/v4", "");
        if (request.method !== "GET") this.writes.push(`${request.method} ${path}${url.search}`);
        const body = chunks.length ? JSON.parse(Buffer.concat(chunks)) : undefined;
        if (body && request.headers["content-type"] !== "application/json") return refuse(415, 10001, "not JSON");
        try {
            const result = this.#answer(request.method, path, url.searchParams, body);
            return result === undefined ? refuse(404, 10007, "not found") : answer(result === null ? 204 : 200, result);
        } catch (error) {
            return refuse(400, 20127, error.message);
        }
    }

    #answer(method, path, query, body) {
        const dryRun = query.get("dry_run") === "true";
        if (path === "/zones" && method === "GET") {
            const zone = query.get("name");
            return this.rulesets.has(zone) ? [{ id: idOf(zone), name: zone }] : [];
        }
        const [, id, rest] = path.match(/^\/zones\/([0-9a-f]+)\/(.*)$/) ?? [];
        const zone = [...this.rulesets.keys()].find((name) => idOf(name) === id);
        if (!zone) return undefined;
        const settings = this.settings.get(zone);
        if (rest in settings) {
            if (method === "PATCH") {
                if (!["on", "off"].includes(body.value)) throw new Error("value is on or off");
                settings[rest] = body.value;
            }
            return { id: rest, value: settings[rest], editable: true };
        }
        const rulesets = this.rulesets.get(zone);
        const [, phase] = rest.match(/^rulesets\/phases\/(\w+)\/entrypoint$/) ?? [];
        if (phase && method === "GET") return rulesets.get(phase);
        if (rest === "rulesets" && method === "POST") {
            only(body, "name", "kind", "phase", "rules");
            if (body.kind !== "zone") throw new Error("kind is zone");
            if (rulesets.has(body.phase)) throw new Error("the phase has an entry point ruleset already");
            const ruleset = { id: this.#id(), name: body.name, kind: "zone", phase: body.phase, rules: [] };
            for (const rule of body.rules) this.#insert(ruleset, rule);
            if (!dryRun) rulesets.set(body.phase, ruleset);
            return ruleset;
        }
        const [, rulesetId, ruleId] = rest.match(/^rulesets\/([0-9a-f]{32})\/rules(?:\/([0-9a-f]{32}))?$/) ?? [];
        const ruleset = [...rulesets.values()].find((ruleset) => ruleset.id === rulesetId);
        if (!ruleset) return undefined;
        const changed = dryRun ? structuredClone(ruleset) : ruleset;
        if (!ruleId && method === "POST") return this.#insert(changed, body);
        const at = changed.rules.findIndex((rule) => rule.id === ruleId);
        if (at < 0) return undefined;
        if (method === "PATCH") {
            checkRule(changed.phase, body);
            changed.rules[at] = { ...body, id: ruleId, version: "2", last_updated: "2026-01-02T00:00:00Z" };
            return changed;
        }
        if (method === "DELETE") {
            changed.rules.splice(at, 1);
            return null;
        }
        return undefined;
    }

    #insert(ruleset, rule) {
        checkRule(ruleset.phase, rule);
        if (ruleset.rules.some(({ ref }) => ref === rule.ref)) throw new Error("two rules have the same ref");
        if (ruleset.rules.length >= MOST_RULES) throw new Error("exceeded the maximum number of rules in the phase");
        ruleset.rules.push({ ...rule, id: this.#id(), version: "1", last_updated: "2026-01-01T00:00:00Z" });
        return ruleset;
    }
}

function idOf(zone) {
    return Buffer.from(zone).toString("hex").padEnd(32, "0");
}

function only(object, ...names) {
    const other = Object.keys(object).filter((name) => !names.includes(name));
    if (other.length) throw new Error(`unknown: ${other}`);
}

function checkRule(phase, rule) {
    only(rule, "ref", "description", "expression", "action", "action_parameters", "enabled");
    if (!/^[a-z0-9_]+$/.test(rule.ref)) throw new Error(`ref: ${rule.ref}`);
    if (typeOf(rule.expression) !== "boolean") throw new Error("a filter is a truth");
    const { action, check } = PHASES[phase] ?? {};
    if (rule.action !== action) throw new Error(`the phase ${phase} has no action ${rule.action}`);
    check(rule.action_parameters);
}

function checkRedirect(parameters) {
    only(parameters, "from_value");
    only(parameters.from_value, "target_url", "status_code", "preserve_query_string");
    only(parameters.from_value.target_url, "expression");
    if (typeOf(parameters.from_value.target_url.expression) !== "string") throw new Error("a target is a text");
    if (![301, 302, 307, 308].includes(parameters.from_value.status_code)) throw new Error("status_code");
}

function checkCache(parameters) {
    only(parameters, "cache", "edge_ttl", "browser_ttl");
    only(parameters.edge_ttl, "mode", "default", "status_code_ttl");
    // The free plan's least value is two hours.
    const { mode, default: seconds } = parameters.edge_ttl;
    if (mode === "override_origin" && !(seconds >= 7200)) throw new Error("edge_ttl");
    for (const part of parameters.edge_ttl.status_code_ttl) only(part, "status_code_range", "value");
}
