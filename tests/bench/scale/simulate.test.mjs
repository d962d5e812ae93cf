// The simulation in small: that it counts what it should, and that the design after keeps its promises.
import assert from "node:assert/strict";
import { test } from "node:test";
import { RollOutAfter, RollOutBefore, rollOut } from "./new-image.mjs";
import { After, Before, simulate } from "./tag.mjs";
import { Agenda, Counter, Kv, Objects, zipf } from "./world.mjs";

test("KV repeats what a location has read, and shows writes after a minute", () => {
    const kv = new Kv(2);
    assert.equal(kv.read(0, 0, "a"), undefined);
    kv.write(10, "a", 1);
    kv.write(10.5, "a", 2);
    assert.equal(kv.refused, 1);
    assert.equal(kv.read(59, 0, "a"), undefined, "a miss is repeated");
    assert.equal(kv.read(59, 1, "a"), undefined, "it does not show yet");
    assert.equal(kv.read(70, 0, "a"), 1);
    assert.equal(kv.read(118, 1, "a"), undefined, "the miss at 59 is repeated");
    assert.equal(kv.read(119, 1, "a"), 1);
    kv.write(100, "a", 3);
    kv.write(140, "a", 4);
    assert.equal(kv.read(161, 0, "a"), 3, "a later write does not hide an earlier one");
    assert.deepEqual([kv.reads, kv.writes.total, kv.writes.busiest], [7, 4, 2]);
});

test("objects refuse above their rate, in each second", () => {
    const objects = new Objects();
    assert.equal(objects.takeSome(0.1, "a", 700), 700);
    assert.equal(objects.takeSome(0.9, "a", 700), 300);
    assert.equal(objects.take(0.99, "a"), false);
    assert.equal(objects.take(0.99, "b"), true);
    assert.equal(objects.take(1, "a"), true);
    assert.deepEqual([objects.refused, objects.requests.busiest], [401, 1401]);
});

test("events happen in the order of their times", () => {
    const agenda = new Agenda();
    const seen = [];
    for (let i = 0; i < 1000; i++) agenda.at((i * 7919) % 1000, (i * 7919) % 1000);
    agenda.run(500, (event) => seen.push(event));
    assert.deepEqual(seen, Array.from({ length: 501 }, (_, i) => i));
    const counter = new Counter();
    counter.add(1.5, "x", 2);
    counter.add(1.9, "x");
    counter.add(2, "x");
    assert.deepEqual([counter.total, counter.busiest], [4, 3]);
    assert.ok(Math.abs(zipf(10, 1).reduce((a, b) => a + b) - 1) < 1e-12);
});

test("when the tag moves, the backend is asked once for each image, over a minute", () => {
    const settings = { rate: 300, locations: 30, images: 100 };
    const after = simulate(After, { ...settings, landed: 180 });
    assert.ok(after.imagesAsked <= 100, `${after.imagesAsked}`);
    assert.ok(after.imagesAsked >= 95, "nearly all images are pulled again");
    assert.ok(after.busiestBackend <= 12, `${after.busiestBackend}`);
    assert.deepEqual([after.busiestKey, after.refusedByKv], [1, 0]);
    const before = simulate(Before, { ...settings, landed: 60 });
    assert.ok(before.moved > 2 * after.moved, `${before.moved}`);
    assert.ok(before.refusedByKv > 0);
    const short = simulate(After, { ...settings, landed: 1 });
    assert.ok(short.imagesAsked > 100, "until KV shows the image, somebody must repeat it");
});

test("a new image is built once, and no client fails", () => {
    const settings = { clients: 5_000, locations: 100, seconds: 2 };
    for (const build of [1, 20, 60, 100]) {
        const after = rollOut(RollOutAfter, { ...settings, build, landed: 180 });
        assert.deepEqual([after.builds, after.failed], [1, 0], JSON.stringify(after));
        assert.ok(after.questions <= 1 + build / 25, JSON.stringify(after));
    }
    const before = rollOut(RollOutBefore, { ...settings, build: 60, landed: 60 });
    assert.ok(before.failed > 0 && before.questions > 1000, JSON.stringify(before));
});
