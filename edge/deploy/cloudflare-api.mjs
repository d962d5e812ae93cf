// The few calls of Cloudflare's API that the rules need: zones, rulesets, and the tiered cache.

import { Refusal } from "./refusal.mjs";

const ADDRESS = "https://api.cloudflare.com/client/v4";

export class Api {
    #address;
    #token;
    #dryRun;

    constructor(address, token, dryRun) {
        this.#address = address;
        this.#token = token;
        this.#dryRun = dryRun;
    }

    /** With the token and the address from the environment, as wrangler reads them. */
    static of(environment, dryRun) {
        const token = environment.CLOUDFLARE_API_TOKEN;
        if (!token) throw new Refusal("CLOUDFLARE_API_TOKEN is not set; --help says which permissions the token needs");
        return new Api(environment.CLOUDFLARE_API_BASE_URL ?? ADDRESS, token, dryRun);
    }

    /** The zone of a host: that of the longest domain which is one. */
    async zoneOf(host) {
        const labels = host.split(".");
        for (let i = 0; i + 1 < labels.length; i++) {
            const [zone] = await this.#call("GET", `/zones?name=${labels.slice(i).join(".")}`);
            if (zone) return { id: zone.id, name: zone.name };
        }
        throw new Refusal(`the token reads no zone for ${host}: is its domain in this account?`);
    }

    /** Our rule as it is stored; undefined if it is not. */
    async find(zone, wanted) {
        const ruleset = await this.#entrypoint(zone, wanted.phase);
        return ruleset?.rules?.find((rule) => rule.ref === wanted.rule.ref);
    }

    /** Creates or updates our rule, and says what was done or would be. */
    async put(zone, wanted) {
        const ruleset = await this.#entrypoint(zone, wanted.phase);
        if (!ruleset) {
            const body = { name: "default", kind: "zone", phase: wanted.phase, rules: [wanted.rule] };
            await this.#call("POST", `/zones/${zone.id}/rulesets${this.#query}`, body);
            return this.#done("created");
        }
        const rules = `/zones/${zone.id}/rulesets/${ruleset.id}/rules`;
        const rule = ruleset.rules?.find((rule) => rule.ref === wanted.rule.ref);
        if (!rule) {
            await this.#call("POST", `${rules}${this.#query}`, wanted.rule);
            return this.#done("created");
        }
        // Cloudflare adds an id, a version and a time.
        if (contains(rule, wanted.rule)) return "as it should be";
        await this.#call("PATCH", `${rules}/${rule.id}${this.#query}`, wanted.rule);
        return this.#done("updated");
    }

    /** Deletes our rule, and says whether there was one. */
    async remove(zone, wanted) {
        const ruleset = await this.#entrypoint(zone, wanted.phase);
        const rule = ruleset?.rules?.find((rule) => rule.ref === wanted.rule.ref);
        if (!rule) return "there is none";
        await this.#call("DELETE", `/zones/${zone.id}/rulesets/${ruleset.id}/rules/${rule.id}${this.#query}`);
        return this.#done("removed");
    }

    /**
     * Lets the locations of a zone ask one location near the bucket before the bucket. Returns the settings with what
     * was done.
     */
    async tieredCache(zone) {
        const said = [];
        // The second needs the first.
        for (const [name, path] of [
            ["tiered cache", "argo/tiered_caching"],
            ["smart topology", "cache/tiered_cache_smart_topology_enable"],
        ]) {
            const setting = `/zones/${zone.id}/${path}`;
            const isOn = (await this.#call("GET", setting, undefined, true))?.value === "on";
            if (!isOn && !this.#dryRun) await this.#call("PATCH", setting, { value: "on" });
            said.push([name, isOn ? "on" : this.#done("switched on")]);
        }
        return said;
    }

    /** Has Cloudflare check a write without storing anything. */
    get #query() {
        return this.#dryRun ? "?dry_run=true" : "";
    }

    #done(what) {
        return this.#dryRun ? `would be ${what}` : what;
    }

    #entrypoint(zone, phase) {
        return this.#call("GET", `/zones/${zone.id}/rulesets/phases/${phase}/entrypoint`, undefined, true);
    }

    /** The result of a call. With `maybe`, undefined where there is nothing. */
    async #call(method, path, body, maybe = false) {
        const answer = await fetch(`${this.#address}${path}`, {
            method,
            headers: {
                authorization: `Bearer ${this.#token}`,
                ...(body && { "content-type": "application/json" }),
            },
            body: body && JSON.stringify(body),
        });
        if (answer.status === 404 && maybe) return undefined;
        if (answer.status === 204) return undefined;
        const text = await answer.text();
        let told;
        try {
            told = JSON.parse(text);
        } catch {
            throw new Refusal(`Cloudflare's API answered ${answer.status} to ${method} ${path}: ${text.slice(0, 200)}`);
        }
        if (told.success !== true) {
            const errors = (told.errors ?? []).map(({ code, message }) => `${message} (${code})`).join("; ");
            throw new Refusal(`Cloudflare refused ${method} ${path}: ${errors || answer.status}`);
        }
        return told.result;
    }
}

/** Whether a value has everything that another one has. */
function contains(value, wanted) {
    if (typeof wanted !== "object" || wanted === null) return value === wanted;
    if (typeof value !== "object" || value === null) return false;
    if (Array.isArray(wanted) && value.length !== wanted.length) return false;
    return Object.entries(wanted).every(([key, inner]) => contains(value[key], inner));
}
