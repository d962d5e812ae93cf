// edge/deploy/blob-rules.mjs against a server that plays Cloudflare's API, and one that plays a registry with the
// Worker behind the rules.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { after, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { CloudflareApi, TOKEN } from "./api.mjs";
import { redirected } from "./redirect.mjs";

const SCRIPT = fileURLToPath(new URL("../../edge/deploy/blob-rules.mjs", import.meta.url));
const REDIRECT = "http_request_dynamic_redirect";
const CACHE = "http_request_cache_settings";
const [HOST, BUCKET] = ["127.0.0.1", "blobs.example"];

let api, registry, worker;

/** A registry whose Worker is configured like this, behind the redirect rules of the API. */
async function startRegistry() {
    const server = createServer((request, response) => {
        const rule = api.rules(HOST, REDIRECT).find(({ ref }) => ref.startsWith("firn"));
        const byRule = rule && redirected(rule, request.method, `http://${request.headers.host}${request.url}`);
        if (byRule) return response.writeHead(byRule.status, { location: byRule.location }).end();
        const headers = { "docker-distribution-api-version": "registry/2.0" };
        if (worker.access === "private") return response.writeHead(401, headers).end();
        const digits = request.url.match(/\/blobs\/sha256(?::|%3A)([0-9a-f]{64})$/)?.[1];
        if (!digits) return response.writeHead(request.url === "/v2/" ? 200 : 404, headers).end();
        const key = `blobs/sha256/${digits.slice(0, 2)}/${digits}`;
        const location = worker.blobs === "public" ? `${worker.url}/${key}` : worker.url;
        response.writeHead(location ? 307 : 404, { ...headers, ...(location && { location }) }).end();
    });
    await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
    return { server, url: `http://127.0.0.1:${server.address().port}` };
}

before(async () => {
    registry = await startRegistry();
});
after(() => registry.server.close());
beforeEach(async () => {
    api?.server.close();
    api = await CloudflareApi.start([HOST, BUCKET, "other.example"]);
    worker = { access: "public", blobs: "public", url: `https://${BUCKET}` };
});
after(() => api.server.close());

function run(command, ...more) {
    const environment = { CLOUDFLARE_API_TOKEN: TOKEN, CLOUDFLARE_API_BASE_URL: api.address };
    return runWith(environment, command, registry.url, ...more);
}

function runWith(environment, ...words) {
    return new Promise((done) => {
        const options = { env: { PATH: process.env.PATH, ...environment } };
        execFile(process.execPath, [SCRIPT, ...words], options, (error, stdout, stderr) => {
            done({ code: error?.code ?? 0, stdout, stderr });
        });
    });
}

async function succeeds(...words) {
    const { code, stdout, stderr } = await run(...words);
    assert.equal(code, 0, stderr);
    assert.equal(stderr, "");
    return stdout;
}

async function refuses(message, ...words) {
    const { code, stderr } = await run(...words);
    assert.equal(code, 1, stderr);
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /\n\s+at /, "a refusal has no stack");
    assert.doesNotMatch(stderr, new RegExp(TOKEN));
}

test("apply creates both rules, and clients reach the bucket", async () => {
    assert.match(await succeeds("check"), /^the Worker answers/);
    const said = await succeeds("apply");
    assert.match(said, /cache rule in the zone blobs\.example: created/);
    assert.match(said, /redirect rule in the zone 127\.0\.0\.1: created/);
    assert.equal(api.rules(HOST, REDIRECT).length, 1);
    assert.equal(api.rules(BUCKET, CACHE).length, 1);
    assert.deepEqual(Object.values(api.settings.get(BUCKET)), ["on", "on"]);
    assert.match(await succeeds("check"), /^the rule answers/);
    const digits = "cd".repeat(32);
    const answer = await fetch(`${registry.url}/v2/shell/git/blobs/sha256:${digits}`, { redirect: "manual" });
    assert.equal(answer.headers.get("location"), `https://${BUCKET}/blobs/sha256/cd/${digits}`);
});

test("the cache comes before the redirect, and goes after it", async () => {
    await succeeds("apply");
    await succeeds("remove");
    const zone = (name) => Buffer.from(name).toString("hex").padEnd(32, "0");
    const rules = api.writes.filter((write) => write.includes("/rulesets"));
    const order = rules.map((write) => `${write.split(" ")[0]} ${write.includes(zone(BUCKET)) ? "cache" : "redirect"}`);
    assert.deepEqual(order, ["POST cache", "POST redirect", "DELETE redirect", "DELETE cache"]);
});

test("a second apply changes nothing", async () => {
    await succeeds("apply");
    api.writes.length = 0;
    const said = await succeeds("apply");
    assert.deepEqual(api.writes, []);
    assert.equal(said.match(/as it should be/g).length, 2);
});

test("apply follows the Worker to another bucket, prefix included", async () => {
    await succeeds("apply");
    const before = api.rules(HOST, REDIRECT)[0].id;
    worker.url = "https://other.example/team/firn";
    await refuses(/run apply again/, "check");
    assert.match(await succeeds("apply"), /redirect rule in the zone 127\.0\.0\.1: updated/);
    assert.equal(api.rules(HOST, REDIRECT).length, 1);
    assert.equal(api.rules(HOST, REDIRECT)[0].id, before);
    assert.deepEqual(api.rules(BUCKET, CACHE), []);
    assert.match(api.rules("other.example", CACHE)[0].expression, /"\/team\/firn\/blobs\/sha256\/"/);
    assert.match(await succeeds("check"), /^the rule answers/);
});

test("a rule that somebody changed or switched off is put right", async () => {
    await succeeds("apply");
    api.rules(HOST, REDIRECT)[0].enabled = false;
    assert.match(await succeeds("apply"), /redirect rule in the zone 127\.0\.0\.1: updated/);
    assert.equal(api.rules(HOST, REDIRECT)[0].enabled, true);
});

test("plan has Cloudflare check the rules, and stores nothing", async () => {
    const said = await succeeds("plan");
    assert.match(said, /would be created/);
    assert.match(said, /if {2}http\.host eq "127\.0\.0\.1"/);
    assert.equal(api.writes.length, 2);
    for (const write of api.writes) assert.match(write, /\?dry_run=true$/);
    assert.deepEqual([api.rules(HOST, REDIRECT), api.rules(BUCKET, CACHE)], [[], []]);
    assert.deepEqual(Object.values(api.settings.get(BUCKET)), ["off", "off"]);
});

test("plan and apply report what Cloudflare refuses", async () => {
    api.addForeignRule(HOST, REDIRECT);
    const rules = api.rules(HOST, REDIRECT);
    while (rules.length < 10) rules.push({ ...rules[0], ref: `other_${rules.length}` });
    await refuses(/maximum number of rules in the phase \(20127\)/, "plan");
    await refuses(/maximum number of rules in the phase \(20127\)/, "apply");
});

test("rules of others stay", async () => {
    api.addForeignRule(HOST, REDIRECT);
    api.addForeignRule(BUCKET, CACHE);
    const before = JSON.stringify([api.rules(HOST, REDIRECT), api.rules(BUCKET, CACHE)]);
    await succeeds("apply");
    assert.deepEqual(api.rules(HOST, REDIRECT).map(({ ref }) => ref), ["somebody_elses", "firn_blobs_127_0_0_1"]);
    const said = await succeeds("remove");
    assert.match(said, /cache rule in the zone blobs\.example: removed/);
    assert.equal(JSON.stringify([api.rules(HOST, REDIRECT), api.rules(BUCKET, CACHE)]), before);
});

test("remove can be repeated, and works for an edge that is private by now", async () => {
    await succeeds("apply");
    worker.access = "private";
    await succeeds("remove");
    assert.match(await succeeds("remove", "--blobs", `https://${BUCKET}`), /there is none/);
    await refuses(/say which bucket/, "remove");
});

test("a private edge gets no rule", async () => {
    worker.access = "private";
    for (const command of ["plan", "apply", "print", "check"]) await refuses(/is private/, command);
    assert.deepEqual(api.writes, []);
});

test("an edge whose blobs are not public gets no rule", async () => {
    for (const url of [
        undefined,
        "https://backend.example/v2/firn/blobs/sha256:00",
        `https://account.r2.example/firn/blobs/sha256/e3/e3b0?X-Amz-Signature=0`,
    ]) {
        worker = { access: "public", blobs: "elsewhere", url };
        await refuses(/FIRN_BLOBS=public/, "apply");
    }
    worker = { access: "public", blobs: "public", url: "http://plain.example" };
    await refuses(/https:/, "apply");
    assert.deepEqual(api.writes, []);
});

test("mistakes are named", async () => {
    const environment = { CLOUDFLARE_API_TOKEN: TOKEN, CLOUDFLARE_API_BASE_URL: api.address };
    const check = async (message, code, environment, ...words) => {
        const answer = await runWith(environment, ...words);
        assert.match(answer.stderr, message);
        assert.equal(answer.code, code, answer.stderr);
    };
    const help = await runWith({}, "--help");
    assert.match(help.stdout, /^usage:/);
    assert.equal(help.code, 0);
    await check(/^usage:/, 2, environment);
    await check(/^usage:/, 2, environment, "aply", registry.url);
    await check(/not a URL/, 1, environment, "apply", "firn.example");
    await check(/https:/, 1, environment, "apply", "http://firn.example");
    await check(/workers\.dev has no rules/, 1, environment, "apply", "https://firn.me.workers.dev");
    await check(/no path/, 1, environment, "apply", "https://firn.example/v2/");
    await check(/CLOUDFLARE_API_TOKEN is not set/, 1, {}, "apply", registry.url);
    const other = { ...environment, CLOUDFLARE_API_TOKEN: "x" };
    await check(/Authentication error \(10000\)/, 1, other, "apply", registry.url);
    await check(/cannot be reached/, 1, environment, "apply", "http://127.0.0.1:9");
    worker.url = "https://blobs.elsewhere.example";
    await check(/no zone for blobs\.elsewhere\.example/, 1, environment, "apply", registry.url);
    assert.deepEqual(api.rules(HOST, REDIRECT), []);
});

test("print needs neither a token nor the registry", async () => {
    const { code, stdout } = await runWith({}, "print", "https://firn.example", "--blobs", "https://blobs.example/a");
    assert.equal(code, 0);
    assert.deepEqual(JSON.parse(stdout).map(({ phase }) => phase), [CACHE, REDIRECT]);
});
