// A release of the Worker, deployed by wrangler to an account that a local server plays.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Account } from "./account.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SETTINGS = "FIRN_BACKEND_URL=https://backend.example\nFIRN_SECRET=the snow of yesteryear\n";

let place, release, account;

before(async () => {
    place = await mkdtemp(join(tmpdir(), "firn-release-"));
    const { code, stderr } = await run(join(ROOT, "setup/worker-release"), [place], {});
    assert.equal(code, 0, stderr);
});
after(() => rm(place, { recursive: true }));
beforeEach(async (context) => {
    // Each test has its own copy, as wrangler may write into it.
    release = join(place, context.name.replaceAll(/\W+/g, "-"));
    await cp(join(place, "firn-edge"), release, { recursive: true });
    await writeFile(join(release, "firn.env"), SETTINGS);
});

function run(program, words, environment, cwd = ROOT) {
    return new Promise((done) => {
        // Wrangler's own files go to the test's folder, so that no account of the developer is used.
        const env = { ...process.env, XDG_CONFIG_HOME: place, CLOUDFLARE_API_TOKEN: "", ...environment };
        // A question that nobody answers must not keep the tests waiting for ever.
        const options = { env, cwd, timeout: 300_000 };
        const child = execFile(program, words, options, (error, stdout, stderr) => {
            done({ code: error?.code ?? 0, stdout, stderr, all: `${stdout}${stderr}` });
        });
        // Nobody answers questions.
        child.stdin.end();
    });
}

async function deploy(words, settings) {
    account = await Account.start(settings);
    return again(words);
}

async function again(words) {
    const answer = await run("wrangler", ["deploy", ...words], account.environment, release);
    account.server.close();
    return answer;
}

function bindings(name) {
    const { metadata } = account.workers.get(name);
    return Object.fromEntries(metadata.bindings.map((binding) => [binding.name, binding]));
}

test("one command deploys to workers.dev", async () => {
    const { code, all } = await deploy(["--secrets-file", "firn.env"]);
    assert.equal(code, 0, all);
    assert.deepEqual(account.unknown, []);
    assert.match(all, /https:\/\/firn\.me\.workers\.dev/);
    assert.deepEqual([...account.onWorkersDev], ["firn"]);
    assert.deepEqual(account.namespaces, ["firn-manifests"]);
    assert.deepEqual(account.workers.get("firn").files.sort(), ["index.js", "index_bg.wasm"]);
    const bound = bindings("firn");
    assert.deepEqual([bound.FIRN_SECRET.type, bound.FIRN_SECRET.text], ["secret_text", "the snow of yesteryear"]);
    assert.equal(bound.FIRN_BACKEND_URL.text, "https://backend.example");
    assert.equal(bound.MANIFESTS.type, "kv_namespace");
    assert.equal(bound.BLOBS, undefined);
});

test("an upgrade needs no file, and keeps the namespace", async () => {
    await deploy(["--secrets-file", "firn.env"]);
    const first = bindings("firn").MANIFESTS.namespace_id;
    const { workers, namespaces, onWorkersDev } = account;
    account = Object.assign(await Account.start(), { workers, namespaces, onWorkersDev });
    const { code, all } = await again([]);
    assert.equal(code, 0, all);
    assert.deepEqual(account.unknown, []);
    assert.deepEqual(account.namespaces, ["firn-manifests"]);
    const { metadata } = account.workers.get("firn");
    const manifests = bindings("firn").MANIFESTS;
    assert.ok(manifests.type === "inherit" || manifests.namespace_id === first, JSON.stringify(manifests));
    // Secrets of the version before stay.
    assert.ok(metadata.keep_bindings.includes("secret_text"), JSON.stringify(metadata.keep_bindings));
    assert.equal(metadata.migrations, undefined);
});

test("a name makes another Worker, with its own namespace and domain", async () => {
    const words = ["--secrets-file", "firn.env", "--name", "firn-staging", "--domain", "staging.example.com"];
    const { code, all } = await deploy(words);
    assert.equal(code, 0, all);
    assert.deepEqual(account.unknown, []);
    assert.deepEqual([...account.workers.keys()], ["firn-staging"]);
    assert.deepEqual(account.namespaces, ["firn-staging-manifests"]);
    assert.deepEqual([...account.domains], [["staging.example.com", "firn-staging"]]);
    assert.deepEqual([...account.onWorkersDev], []);
    // Without the domain, it is on workers.dev again. docs/deploy-edge.md warns of that.
    const { workers, namespaces } = account;
    account = Object.assign(await Account.start(), { workers, namespaces });
    const later = await again(["--name", "firn-staging"]);
    assert.equal(later.code, 0, later.all);
    assert.deepEqual([...account.onWorkersDev], ["firn-staging"]);
});

test("a bucket is created if R2 is switched on", async () => {
    const words = ["--config", "with-bucket.jsonc", "--secrets-file", "firn.env"];
    const { code, all } = await deploy(words, { r2: true });
    assert.equal(code, 0, all);
    assert.deepEqual(account.unknown, []);
    assert.deepEqual(account.buckets, ["firn-blobs"]);
    assert.equal(bindings("firn").BLOBS.bucket_name, "firn-blobs");
});

test("without R2, wrangler says what is missing, and nothing is deployed", async () => {
    const { code, all } = await deploy(["--config", "with-bucket.jsonc", "--secrets-file", "firn.env"]);
    assert.notEqual(code, 0, all);
    assert.match(all, /10042/);
    assert.equal(account.workers.size, 0);
});

test("analytics need a switch in the dashboard", async () => {
    const own = join(release, "own.jsonc");
    const text = await readFile(join(release, "wrangler.jsonc"), "utf8");
    const dataset = '"analytics_engine_datasets": [{ "binding": "PULLS", "dataset": "firn" }],';
    await writeFile(own, text.replace('"name": "firn",', `"name": "firn", ${dataset}`));
    const { code, all } = await deploy(["--config", "own.jsonc", "--secrets-file", "firn.env"]);
    assert.notEqual(code, 0, all);
    assert.match(all, /10089/);
});

test("a file of one's own may lie outside of the release", async () => {
    const text = await readFile(join(release, "with-bucket.jsonc"), "utf8");
    const own = text.replace('"main": "index.js"', '"main": "firn-edge/index.js"').replace('"firn-blobs"', '"mine"');
    assert.notEqual(own, text);
    await cp(join(place, "firn-edge"), join(release, "inner/firn-edge"), { recursive: true });
    await writeFile(join(release, "inner/own.jsonc"), own);
    const words = ["--config", "inner/own.jsonc", "--secrets-file", "firn.env"];
    const { code, all } = await deploy(words, { r2: true });
    assert.equal(code, 0, all);
    assert.deepEqual(account.buckets, ["mine"]);
    assert.deepEqual(account.workers.get("firn").files.sort(), ["index.js", "index_bg.wasm"]);
});

// What wrangler uploads are the files as they are, so they are run as they are.
test("the files of a release answer in workerd", { timeout: 300_000 }, async () => {
    const words = ["dev", "--local", "--ip=127.0.0.1", "--port=0", "--inspector-port=0", "--env-file=firn.env"];
    const env = { ...process.env, XDG_CONFIG_HOME: place, CI: "1", NO_COLOR: "1", WRANGLER_SEND_METRICS: "false" };
    const options = { cwd: release, env, stdio: ["ignore", "pipe", "inherit"], detached: true };
    const child = spawn("wrangler", [...words, "--show-interactive-dev-session=false"], options);
    let said = "";
    try {
        for await (const chunk of child.stdout) {
            said += chunk;
            if (/Ready on http/.test(said)) break;
        }
        const [, address] = said.match(/Ready on (http:\/\/[0-9.:]+)/) ?? assert.fail(said);
        const health = await fetch(`${address}/healthz`);
        assert.deepEqual([health.status, await health.json()], [200, { status: "ok" }]);
        const base = await fetch(`${address}/v2/`);
        assert.equal(base.headers.get("docker-distribution-api-version"), "registry/2.0");
    } finally {
        // Its workerd, too.
        process.kill(-child.pid);
        await once(child, "exit");
    }
});

test("both configurations have what wrangler.toml has", async () => {
    const toml = await readFile(join(ROOT, "wrangler.toml"), "utf8");
    const production = toml.slice(toml.indexOf("[env.production]"));
    const values = (text, pattern) => [...text.matchAll(pattern)].map((match) => match[1]).sort();
    for (const name of ["wrangler.jsonc", "with-bucket.jsonc"]) {
        const text = await readFile(join(release, name), "utf8");
        const config = JSON.parse(text.replaceAll(/^\s*\/\/.*$/gm, ""));
        assert.equal(config.compatibility_date, toml.match(/^compatibility_date = "(.*)"$/m)[1]);
        const classes = config.migrations.flatMap((step) => step.new_sqlite_classes);
        assert.deepEqual(classes, values(toml, /^new_sqlite_classes = \["(.*)"\]$/gm).sort(byPlace(toml)), name);
        assert.deepEqual(config.migrations.map(({ tag }) => tag), values(toml, /^tag = "(.*)"$/gm));
        const objects = config.durable_objects.bindings.map((binding) => binding.class_name);
        assert.deepEqual(objects.sort(), values(production, /^class_name = "(.*)"$/gm));
        const names = [...config.durable_objects.bindings, ...config.ratelimits].map(({ name }) => name);
        assert.deepEqual(names.sort(), values(production, /^name = "(.*)"$/gm));
        const bound = [...config.kv_namespaces, ...(config.r2_buckets ?? [])].map(({ binding }) => binding);
        const expected = values(production, /^binding = "(.*)"$/gm).filter((binding) => binding !== "PULLS");
        assert.deepEqual(bound.sort(), expected.filter((binding) => binding !== "BLOBS" || config.r2_buckets));
        const limits = config.ratelimits.map(({ simple }) => `${simple.limit}`);
        assert.deepEqual(limits.sort(), values(production, /^simple = { limit = (\d+), period = 60 }$/gm));
        assert.equal(config.vars, undefined, "a variable would take the place of a setting in firn.env");
    }
});

// In the order in which they stand in the file.
function byPlace(text) {
    return (a, b) => text.indexOf(`["${a}"]`) - text.indexOf(`["${b}"]`);
}

test("each environment of wrangler.toml can be deployed", async () => {
    const config = join(ROOT, "wrangler.toml");
    const text = await readFile(config, "utf8");
    const names = ["", ...[...text.matchAll(/^\[env\.(\w+)\]$/gm)].map((match) => match[1])];
    assert.ok(names.length >= 3, `${names}`);
    for (const name of names) {
        const words = ["deploy", "--dry-run", "--env", name, "--config", config, "--outdir", join(release, "out")];
        const { code, all } = await run("wrangler", words, { CI: "1", WRANGLER_SEND_METRICS: "false" });
        assert.equal(code, 0, all);
        assert.match(all, /--dry-run: exiting now/);
    }
});

test("a release is the same, however often it is packed", async () => {
    const bytes = () => readFile(join(place, "firn-edge-0.1.0.tar.gz"));
    const before = await bytes();
    const { code, stderr } = await run(join(ROOT, "setup/worker-release"), [place], {});
    assert.equal(code, 0, stderr);
    assert.ok(before.equals(await bytes()));
});
