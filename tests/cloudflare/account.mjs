// Plays the part of Cloudflare's API that `wrangler deploy` uses, for an account without anything. It keeps what is
// uploaded, and refuses what Cloudflare refuses in an account that has not switched something on.
import { createServer } from "node:http";

export const ACCOUNT = "a".repeat(32);
const R2_OFF = "Please enable R2 through the Cloudflare Dashboard.";

export class Account {
    /** Name → { metadata, files: names of the modules }. */
    workers = new Map();
    /** Titles of namespaces in KV. */
    namespaces = [];
    /** Names of buckets in R2. */
    buckets = [];
    /** Host → Worker. */
    domains = new Map();
    /** Workers that answer on workers.dev. */
    onWorkersDev = new Set();
    /** Requests that this server does not know: a defect of the test. */
    unknown = [];

    /** An account in which R2 is switched on or not: it wants a payment method. */
    static async start({ r2 = false } = {}) {
        const account = new Account();
        account.r2 = r2;
        account.server = createServer(async (request, response) => {
            const chunks = [];
            for await (const chunk of request) chunks.push(chunk);
            const url = new URL(request.url, "http://api.invalid");
            const path = url.pathname.replace(`/client/v4/accounts/${ACCOUNT}`, "");
            const body = await read(request, Buffer.concat(chunks));
            const [status, code, result] = account.#answer(request.method, path, body);
            const errors = code ? [{ code, message: result }] : [];
            response.writeHead(status, { "content-type": "application/json" });
            response.end(JSON.stringify({ success: !code, errors, messages: [], result: code ? null : result }));
        });
        await new Promise((ready) => account.server.listen(0, "127.0.0.1", ready));
        account.environment = {
            CLOUDFLARE_API_BASE_URL: `http://127.0.0.1:${account.server.address().port}/client/v4`,
            CLOUDFLARE_API_TOKEN: "token",
            CLOUDFLARE_ACCOUNT_ID: ACCOUNT,
            CLOUDFLARE_CF_FETCH_ENABLED: "false",
            CI: "1",
            NO_COLOR: "1",
            WRANGLER_SEND_METRICS: "false",
            WRANGLER_SEND_ERROR_REPORTS: "false",
        };
        return account;
    }

    #answer(method, path, body) {
        const ok = (result) => [200, undefined, result];
        const of = (pattern) => path.match(pattern)?.[1];
        let name;
        if ((name = of(/^\/workers\/services\/([^/]+)$/))) {
            const script = { migration_tag: this.#tagOf(name) };
            return this.workers.has(name) ? ok({ default_environment: { script } }) : [404, 10090, "no such Worker"];
        }
        if ((name = of(/^\/workers\/workers\/([^/]+)$/))) {
            const enabled = this.onWorkersDev.has(name);
            return ok({ id: name, name, subdomain: { enabled, previews_enabled: false } });
        }
        if (path === "/workers/subdomain") return ok({ subdomain: "me" });
        if (path === "/storage/kv/namespaces") {
            if (method === "GET") return ok(this.namespaces.map((title) => ({ id: idOf(title), title })));
            this.namespaces.push(body.title);
            return ok({ id: idOf(body.title), title: body.title });
        }
        if (path.startsWith("/r2/buckets")) {
            if (!this.r2) return [403, 10042, R2_OFF];
            if (method === "POST") return ok(void this.buckets.push(body.name) ?? {});
            if (path === "/r2/buckets") return ok({ buckets: this.buckets.map((name) => ({ name })) });
            const exists = this.buckets.includes(path.split("/")[3]);
            return exists ? ok({}) : [404, 10006, "The specified bucket does not exist."];
        }
        if ((name = of(/^\/workers\/scripts\/([^/]+)$/)) && method === "PUT") {
            const types = body.metadata.bindings.map(({ type }) => type);
            if (types.includes("analytics_engine")) return [403, 10089, "You need to enable Analytics Engine."];
            if (types.includes("r2_bucket") && !this.r2) return [403, 10042, R2_OFF];
            this.workers.set(name, body);
            return ok({ id: name, etag: "", deployment_id: "deployment", startup_time_ms: 5 });
        }
        if ((name = of(/^\/workers\/scripts\/([^/]+)\//)) && !this.workers.has(name)) {
            return [404, 10007, "This Worker does not exist on your account."];
        }
        if (path === `/workers/scripts/${name}/subdomain`) {
            if (method === "POST") this.onWorkersDev[body.enabled ? "add" : "delete"](name);
            return ok({ enabled: this.onWorkersDev.has(name), previews_enabled: false });
        }
        if (path === `/workers/scripts/${name}/domains/changeset`) {
            return ok({ added: body, removed: [], updated: [], conflicting: [] });
        }
        if (path === `/workers/scripts/${name}/domains/records`) {
            for (const { hostname } of body.origins) this.domains.set(hostname, name);
            return ok({});
        }
        if (path === `/workers/scripts/${name}/settings`) {
            return ok({ bindings: this.workers.get(name).metadata.bindings, migration_tag: this.#tagOf(name) });
        }
        if (path === `/workers/scripts/${name}/secrets`) {
            const { bindings } = this.workers.get(name).metadata;
            return ok(bindings.filter(({ type }) => type === "secret_text").map(({ name, type }) => ({ name, type })));
        }
        // How a Worker without new migrations is replaced.
        if (path === `/workers/scripts/${name}/versions` && method === "POST") {
            this.workers.set(name, body);
            const resources = { script: { etag: "" }, script_runtime: {} };
            return ok({ id: "version", number: 2, startup_time_ms: 5, metadata: {}, resources });
        }
        if (path === `/workers/scripts/${name}/script-settings`) return ok(body ?? {});
        if (path === `/workers/scripts/${name}/deployments`) {
            if (method === "POST") return ok({ id: "deployment" });
            return ok({ deployments: [{ id: "deployment", source: "wrangler", versions: [] }] });
        }
        if (path === "/workers/scripts") {
            return ok([...this.workers.keys()].map((id) => ({ id, migration_tag: this.#tagOf(id) })));
        }
        this.unknown.push(`${method} ${path}`);
        return [404, 7003, `unknown: ${method} ${path}`];
    }

    #tagOf(name) {
        return this.workers.get(name)?.metadata.migrations?.new_tag;
    }
}

async function read(request, bytes) {
    const type = request.headers["content-type"] ?? "";
    if (type.startsWith("multipart/form-data")) {
        const form = await new Response(bytes, { headers: { "content-type": type } }).formData();
        const files = [...form.keys()].filter((key) => key !== "metadata");
        return { metadata: JSON.parse(form.get("metadata")), files };
    }
    return bytes.length ? JSON.parse(bytes) : undefined;
}

function idOf(title) {
    return Buffer.from(title).toString("hex").slice(0, 32).padEnd(32, "0");
}
