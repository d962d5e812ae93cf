// The redirect rule and the cache rule, evaluated over paths of real requests.
import assert from "node:assert/strict";
import { test } from "node:test";
import { cacheRule, redirectRule, rulesOf } from "../../edge/deploy/rules.mjs";
import { redirected } from "./redirect.mjs";
import { evaluate, typeOf } from "./rules-language.mjs";

const REGISTRY = new URL("https://firn.example");
const DIGITS = "ab".repeat(32);
const blob = (name, digits = DIGITS) => `https://firn.example/v2/${name}/blobs/sha256:${digits}`;

function check(bucket, method, url, expected) {
    const { rule } = redirectRule(REGISTRY, new URL(bucket));
    const answer = redirected(rule, method, url);
    assert.deepEqual(answer, expected && { status: 307, location: expected }, `${method} ${url}`);
}

test("blobs are redirected to their key in the bucket", () => {
    const key = `blobs/sha256/ab/${DIGITS}`;
    const bucket = "https://blobs.example";
    const names = ["a", "shell", "shell/git", "shell/git/htop/arm64", "blobs/blobs", "sha256/blobs/x", "x".repeat(255)];
    for (const name of names) {
        check(bucket, "GET", blob(name), `${bucket}/${key}`);
    }
    check(bucket, "GET", `${blob("shell/git")}?ns=docker.io`, `${bucket}/${key}`);
    check(bucket, "GET", blob("shell%2Fgit"), `${bucket}/${key}`);
    const all = "0123456789abcdef".repeat(4);
    check(bucket, "GET", blob("a", all), `${bucket}/blobs/sha256/01/${all}`);
    check(`${bucket}/`, "GET", blob("a"), `${bucket}/${key}`);
    check(`${bucket}/team/firn`, "GET", blob("a"), `${bucket}/team/firn/${key}`);
    check(`${bucket}/team/firn/`, "GET", blob("a"), `${bucket}/team/firn/${key}`);
});

test("everything else reaches the Worker", () => {
    const on = (path) => `https://firn.example${path}`;
    const bucket = "https://blobs.example";
    for (const method of ["HEAD", "POST", "PUT", "PATCH", "DELETE"]) check(bucket, method, blob("shell"), undefined);
    for (const url of [
        on("/"),
        on("/healthz"),
        on("/v2"),
        on("/v2/"),
        on("/v2/_catalog"),
        on("/v2/shell/tags/list"),
        on("/v2/shell/manifests/latest"),
        on(`/v2/shell/manifests/sha256:${DIGITS}`),
        on(`/v2/shell/referrers/sha256:${DIGITS}`),
        on("/v2/shell/blobs/uploads/"),
        on(`/v2/shell/blobs/uploads/${DIGITS}`),
        on(`/v2/shell/blobs/uploads/?digest=sha256:${DIGITS}`),
        on(`/v2/shell/blobs/?x=/v2/shell/blobs/sha256:${DIGITS}`),
        on(`/v2/shell/blobs/sha256%3A${DIGITS}`),
        on(`/v2/shell/blobs/sha512:${DIGITS}${DIGITS}`),
        on(`/v2/shell/blobs/sha512:${DIGITS}`),
        on(`/v2/blobs/sha256:${DIGITS}`),
        on(`/v2//blobs/sha256:${DIGITS}`),
        on(`/v1/shell/blobs/sha256:${DIGITS}`),
        on(`/builds/v2/shell/blobs/sha256:${DIGITS}`),
        on(`/v2/shell/sha256:${DIGITS}`),
        on(`/v2/shell/blobs/sha256:${DIGITS}/`),
        on(`/v2/shell/blobs/sha256:${DIGITS}%0a`),
        blob("shell", DIGITS.slice(1)),
        blob("shell", `${DIGITS}0`),
        blob("shell", "baddigest"),
        blob("shell", ""),
        blob("shell", DIGITS.toUpperCase()),
        blob("shell", `A${DIGITS.slice(1)}`),
        blob("shell", `${DIGITS.slice(1)}g`),
        blob("shell", `${DIGITS.slice(1)}.`),
        blob("shell", `${DIGITS.slice(2)}/x`),
        blob("shell", `${DIGITS.slice(3)}%41`),
        blob("shell").replace("firn.example", "www.firn.example"),
        blob("shell").replace("firn.example", "blobs.example"),
    ]) {
        check(bucket, "GET", url, undefined);
    }
});

test("no path of the right shape leads to another host", () => {
    const { rule } = redirectRule(REGISTRY, new URL("https://blobs.example"));
    // A deterministic generator, so that a failure can be repeated.
    let state = 1;
    const next = (below) => (state = (state * 48271) % 2147483647) % below;
    const pieces = ["/", "//", "\\", "..", "v2", "blobs", "sha256", ":", "@", "a", "0", "F", "%2F", "%3A"];
    pieces.push("evil.example", DIGITS);
    let answers = 0;
    for (let i = 0; i < 20_000; i++) {
        let path = "/v2/";
        for (let n = next(12); n > 0; n--) path += pieces[next(pieces.length)];
        if (next(3) === 0) path += `/blobs/sha256:${DIGITS}`;
        const answer = redirected(rule, "GET", `https://firn.example${path}`);
        if (!answer) continue;
        answers += 1;
        assert.match(answer.location, /^https:\/\/blobs\.example\/blobs\/sha256\/([0-9a-f]{2})\/\1[0-9a-f]{62}$/, path);
    }
    assert.ok(answers > 1000, `${answers}`);
});

test("the CDN keeps blobs of the bucket and nothing else", () => {
    const check = (bucket, url, expected) => {
        const { rule } = cacheRule(REGISTRY, new URL(bucket));
        const { hostname, pathname } = new URL(url);
        const request = { "http.host": hostname, "http.request.uri.path": pathname, "http.request.method": "GET" };
        assert.equal(evaluate(rule.expression, request), expected, url);
        const { edge_ttl } = rule.action_parameters;
        assert.equal(edge_ttl.mode, "override_origin");
        assert.deepEqual(edge_ttl.status_code_ttl, [{ status_code_range: { from: 400 }, value: -1 }]);
    };
    const key = `blobs/sha256/ab/${DIGITS}`;
    check("https://blobs.example", `https://blobs.example/${key}`, true);
    check("https://blobs.example", `https://other.example/${key}`, false);
    check("https://blobs.example", `https://blobs.example/images/ab/${DIGITS}`, false);
    check("https://blobs.example", `https://blobs.example/team/${key}`, false);
    check("https://blobs.example/team", `https://blobs.example/team/${key}`, true);
    check("https://blobs.example/team", `https://blobs.example/${key}`, false);
});

test("a bucket at the registry's host or below it is refused", () => {
    const refused = (bucket, message) => assert.throws(() => rulesOf(REGISTRY, new URL(bucket)), { message });
    refused("https://firn.example/blobs", /domain of its own/);
    refused("https://blobs.firn.example", /credentials/);
    assert.equal(rulesOf(REGISTRY, new URL("https://notfirn.example")).length, 2);
    assert.throws(() => rulesOf(REGISTRY, { href: 'https://x/"', hostname: "x" }), /cannot stand in a rule/);
});

test("the evaluator is strict", () => {
    const wrong = (expression, message) => assert.throws(() => typeOf(expression), { message });
    wrong("http.hots eq \"a\"", /neither a field nor a function/);
    wrong("upper(http.host) eq \"A\"", /neither a field nor a function/);
    wrong("http.host eq 1", /compared/);
    wrong("\"a\" eq http.host", /in this order/);
    wrong("http.host eq http.host", /in this order/);
    wrong("starts_with(\"a\", \"a\")", /is a literal/);
    wrong("starts_with(http.host, http.host)", /is no literal/);
    wrong("substring(http.host)", /arguments of substring/);
    wrong("substring(http.host, \"1\")", /argument 2/);
    wrong("len(http.host) and len(http.host)", /combines truths/);
    wrong("http.host eq \"a\" http.host", /unexpected/);
    wrong("http.host matches \"a\"", /unexpected/);
    wrong("http.host == \"a\"", /not of the language/);
    wrong("(http.host eq \"a\"", /expected/);
    wrong(`http.host eq "${"a".repeat(4096)}"`, /longer/);
    assert.throws(() => evaluate("substring(http.host, -4)", { "http.host": "abc" }), /outside/);
    assert.throws(() => evaluate("len(http.host)", {}), /has no/);
    const value = (expression) => evaluate(expression, { "http.host": "asdfghjk" });
    assert.equal(value("substring(http.host, 2, 5)"), "dfg");
    assert.equal(value("substring(http.host, 2)"), "dfghjk");
    assert.equal(value("substring(http.host, -2)"), "jk");
    assert.equal(value("substring(http.host, 0, -2)"), "asdfgh");
    assert.equal(value("not (http.host eq \"a\" or len(http.host) lt 8)"), true);
});
