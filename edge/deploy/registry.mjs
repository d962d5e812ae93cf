// What the deployed Worker says of itself.

import { Refusal } from "./refusal.mjs";

// The digest of nothing. No image has this blob, so that no edge keeps it itself.
const DIGITS = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const KEY = `/blobs/sha256/${DIGITS.slice(0, 2)}/${DIGITS}`;

/**
 * Where the Worker sends clients for blobs: FIRN_BLOBS_URL. Refuses a private edge, and one that keeps blobs elsewhere.
 * The colon is escaped, which the rule does not match: the Worker is asked even when the rule exists.
 */
export async function placeOfBlobs(registry) {
    const base = await ask(new URL("/v2/", registry));
    if (base.status === 401) {
        throw new Refusal(
            `${registry.hostname} is private: with a rule, everybody who knows a digest would get the blob. ` +
                "If there is one, remove it: node blob-rules.mjs remove",
        );
    }
    if (base.status !== 200 || base.headers.get("docker-distribution-api-version") !== "registry/2.0") {
        const problem = `does not answer like a registry (${base.status})`;
        throw new Refusal(`${registry.hostname} ${problem}: deploy the Worker first`);
    }
    const answer = await ask(new URL(`/v2/firn/blobs/sha256%3A${DIGITS}`, registry));
    const location = answer.headers.get("location") ?? "";
    const place = location.endsWith(KEY) ? location.slice(0, -KEY.length) : "";
    if (answer.status !== 307 || !URL.canParse(place)) {
        throw new Refusal(
            `${registry.hostname} does not send clients to a public bucket (${answer.status} ${location}): ` +
                `set FIRN_BLOBS=public and FIRN_BLOBS_URL, and deploy`,
        );
    }
    if (!place.startsWith("https://")) throw new Refusal(`FIRN_BLOBS_URL must begin with https://, not ${place}`);
    return new URL(place);
}

/** One line that says whether the rule works. */
export async function whoAnswers(registry) {
    const expected = await placeOfBlobs(registry);
    const answer = await ask(new URL(`/v2/firn/blobs/sha256:${DIGITS}`, registry));
    if (answer.headers.get("docker-distribution-api-version")) {
        return "the Worker answers requests for blobs: there is no rule, or another rule comes before it";
    }
    const location = answer.headers.get("location");
    if (answer.status !== 307 || location !== `${expected.href.replace(/\/$/, "")}${KEY}`) {
        const said = `the rule says ${answer.status} ${location}, the Worker ${expected.href}`;
        throw new Refusal(`${said}: run apply again`);
    }
    return "the rule answers requests for blobs, and sends clients where the Worker would";
}

async function ask(url) {
    try {
        return await fetch(url, { redirect: "manual", headers: { "user-agent": "firn-blob-rules" } });
    } catch (error) {
        throw new Refusal(`${url.host} cannot be reached: ${error.cause?.message ?? error.message}`);
    }
}
