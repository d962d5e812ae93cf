// Prints what the two designs of the edge need at scale: the design before (an object per image, one pointer that all
// of them write) and the design after (an object per tag). docs/scale.md explains the figures.
import { readFileSync } from "node:fs";
import { After, Before, simulate } from "./tag.mjs";
import { RollOutAfter, RollOutBefore, rollOut } from "./new-image.mjs";

const { dollars_per_million: PRICES, assumed_cdn_hit_ratio: CDN_HITS } = JSON.parse(
    readFileSync(new URL("../../prices.json", import.meta.url), "utf8"),
);
const [LOCATIONS, IMAGES] = [300, 1000];
// How long the object of an image repeats its answer, in seconds. KV shows a value everywhere after a minute, and a
// location that has just read that there is nothing repeats that for another minute.
const LANDED = { before: 60, after: 180 };

const perThousand = ({ bill, pulls }) => (bill.object_requests / pulls) * 1000;
const number = (value) => Math.round(value).toLocaleString("en-US");
const money = (value) => `$${value.toFixed(2)}`;

function table(title, rows) {
    console.log(`${title}\n`);
    const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
    rows.forEach((row, at) => {
        console.log(`| ${row.map((cell, i) => (i ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join(" | ")} |`);
        if (at === 0) console.log(`|${widths.map((width, i) => "-".repeat(width + 1) + (i ? ":" : "-")).join("|")}|`);
    });
    console.log();
}

/** Dollars for a million pulls. Each request that the Worker answers runs it. */
function price({ bill, pulls, blobs, behindCdn }) {
    const read = behindCdn ? blobs * (1 - CDN_HITS) : blobs;
    const all = { ...bill, worker_runs: bill.worker_requests, r2_class_b: bill.r2_class_b + read };
    const dollars = Object.entries(all).map(([kind, count]) => (count * PRICES[kind]) / 1e6);
    return (dollars.reduce((a, b) => a + b) / pulls) * 1e6;
}

const runs = [];
for (const rate of [1_000, 100_000]) {
    for (const [name, Design] of Object.entries({ before: Before, after: After })) {
        const settings = { rate, locations: LOCATIONS, images: IMAGES, landed: LANDED[name] };
        runs.push({ name: `${number(rate)}/s, ${name}`, ...simulate(Design, settings) });
    }
}
table(`A tag with ${number(IMAGES)} images at ${LOCATIONS} locations, TTL 300 s, moves once`, [
    ["", ...runs.map((run) => run.name)],
    ["questions to the backend an hour, unmoved", ...runs.map((run) => number(run.steadyAnHour))],
    ["questions when the tag moves", ...runs.map((run) => number(run.moved))],
    ["the same for one image", ...runs.map((run) => (run.moved / IMAGES).toFixed(1))],
    ["most questions in one second", ...runs.map((run) => number(run.busiestBackend))],
    ["most requests to one object in a second", ...runs.map((run) => number(run.busiestObject))],
    ["most writes to one KV key in a second", ...runs.map((run) => number(run.busiestKey))],
    ["KV writes refused (429)", ...runs.map((run) => number(run.refusedByKv))],
    ["KV writes in half an hour", ...runs.map((run) => number(run.bill.kv_writes))],
    ["KV reads for a pull", ...runs.map((run) => (run.bill.kv_reads / run.pulls).toFixed(2))],
    ["object requests for 1,000 pulls", ...runs.map((run) => perThousand(run).toFixed(2))],
    ["$ for a million pulls", ...runs.map((run) => money(price(run)))],
]);

const rollOuts = [];
for (const build of [20, 60]) {
    for (const [name, Design] of Object.entries({ before: RollOutBefore, after: RollOutAfter })) {
        const settings = { clients: 10_000, locations: LOCATIONS, seconds: 2, build, landed: LANDED[name] };
        rollOuts.push({ name: `${build} s, ${name}`, ...rollOut(Design, settings) });
    }
}
table(`10,000 clients at ${LOCATIONS} locations pull one new image within 2 s; a build takes`, [
    ["", ...rollOuts.map((run) => run.name)],
    ["builds", ...rollOuts.map((run) => number(run.builds))],
    ["questions to the backend", ...rollOuts.map((run) => number(run.questions))],
    ["most questions in one second", ...rollOuts.map((run) => number(run.busiestBackend))],
    ["most requests to the image's object in a second", ...rollOuts.map((run) => number(run.busiestObject))],
    ["refused by the object", ...rollOuts.map((run) => number(run.refusedByObjects))],
    ["clients that fail", ...rollOuts.map((run) => number(run.failed))],
    ["longest wait of the others", ...rollOuts.map((run) => `${number(run.longest)} s`)],
]);
