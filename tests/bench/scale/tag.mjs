// A tag with many images in use everywhere, which moves once. Only pulls that no cache of a location answers are
// events; the others are counted by their rate.
import { Agenda, Chance, Counter, Kv, Objects, zipf } from "./world.mjs";

/** When the tag moves, and when the simulation ends, in seconds. */
export const MOVE = 900;
export const END = 1800;
// FIRN_TAG_TTL_SECONDS.
const TTL = 300;
// How long the Cache API kept the answer to a tag, before.
const CACHED = 30;
// How long an isolate kept a pointer, before, and does not repeat a revalidation (edge/src/memory.rs).
const IN_MEMORY = 10;
// How long the backend takes for an image of which all packages are known, and for one with a new package.
const QUICK = 0.3;
const PACKING = 5;
// Over how many seconds images of a moved tag change (shared/src/link/tag_pointer.rs).
const SPREAD = 60;
// How much later than the TTL a location checks, at most, so that not all do so at once.
const LATE = TTL / 4;
// How many requests a second one isolate answers.
const ISOLATE_RATE = 500;
const POINTER = "tag";
// 58 layers and a config: `shell/git`.
const BLOBS = 59;

/**
 * Runs a design at this many pulls a second, and returns what was counted. The exponents say how unequal locations and
 * images are.
 */
export function simulate(Design, { rate, locations, images, landed, exponents = [0.6, 1] }) {
    const agenda = new Agenda();
    const chance = new Chance(7);
    const kv = new Kv(locations);
    const objects = new Objects();
    const backend = { images: new Counter(), tags: new Counter() };
    const [byLocation, byImage] = [zipf(locations, exponents[0]), zipf(images, exponents[1])];
    const world = { agenda, chance, kv, objects, backend, landed, locations, images, set: 1, bucketReads: 0 };
    world.isolates = byLocation.map((share) => {
        return Math.min(64, Math.max(2, Math.ceil((rate * share * Design.REQUESTS_PER_PULL) / ISOLATE_RATE)));
    });
    // When the next pull of an image at a location is looked at. An event of another time has been replaced.
    const next = new Float64Array(locations * images);
    const rateOf = (pair) => rate * byLocation[Math.floor(pair / images)] * byImage[pair % images];
    world.rateAt = (location) => rate * byLocation[location];
    world.lookIn = (pair, seconds) => {
        next[pair] = agenda.now + seconds;
        if (next[pair] <= END) agenda.at(next[pair], pair);
    };
    /** Looks at the first pull after this many seconds. */
    world.lookAfter = (pair, seconds) => world.lookIn(pair, seconds + chance.wait(rateOf(pair)));
    const design = new Design(world);
    kv.fill(POINTER, design.pointer());
    for (let image = 0; image < images; image++) kv.fill(key(1, image), true);
    for (let pair = 0; pair < locations * images; pair++) world.lookAfter(pair, 0);
    const act = (event) => {
        if (typeof event === "function") return event();
        if (next[event] !== agenda.now) return undefined;
        const seconds = design.look(Math.floor(event / images), event % images, rateOf(event));
        return seconds === undefined ? undefined : world.lookIn(event, seconds);
    };
    agenda.run(MOVE, act);
    const steady = { questions: backend.images.total + backend.tags.total, images: backend.images.total };
    const counts = () => ({
        kv_reads: kv.reads,
        kv_writes: kv.writes.total,
        object_requests: objects.requests.total,
        r2_class_b: world.bucketReads,
    });
    const before = counts();
    backend.images.busiest = 0;
    world.set = 2;
    agenda.run(END, act);
    return {
        pulls: rate * END,
        steadyAnHour: (steady.questions * 3600) / MOVE,
        moved: backend.images.total + backend.tags.total - steady.questions,
        imagesAsked: backend.images.total,
        busiestBackend: backend.images.busiest,
        busiestObject: objects.requests.busiest,
        refusedByObjects: objects.refused,
        busiestKey: kv.writes.busiest,
        refusedByKv: kv.refused,
        bill: {
            ...counts(),
            worker_requests: rate * END * Design.REQUESTS_PER_PULL,
            kv_reads: kv.reads + rate * END * Design.KV_READS_PER_PULL,
        },
        // From when the tag moved.
        since: {
            images: backend.images.total - steady.images,
            ...Object.fromEntries(Object.entries(counts()).map(([kind, count]) => [kind, count - before[kind]])),
        },
        blobs: rate * END * BLOBS,
        behindCdn: Design.BEHIND_CDN,
    };
}

const key = (set, image) => set * 1e6 + image;

/** One object per image asks the backend; it repeats the answer for a while. */
class Flights {
    #world;
    #landed = new Map();

    constructor(world) {
        this.#world = world;
    }

    /** Joins the flight of an image, or starts it. Returns after how many seconds there is an answer. */
    join(image, learn) {
        const { agenda, backend, landed, kv } = this.#world;
        const known = this.#landed.get(image);
        const { now } = agenda;
        // A flight under way has its landing in the future.
        if (known && now < known.at + landed) return Math.max(0, known.at - now);
        const { set } = this.#world;
        backend.images.add(now);
        const at = now + (kv.repeated(0, key(set, image))?.value || set === 1 ? QUICK : PACKING);
        this.#landed.set(image, { at });
        agenda.at(at, () => {
            kv.write(at, key(set, image), true);
            kv.write(at, -key(set, image), true);
            learn(set, at);
        });
        return at - now;
    }
}

/** The design before: each image's object writes the tag's pointer, which all share, and overload falls through. */
export class Before {
    static REQUESTS_PER_PULL = 3 + BLOBS;
    // `is_kept_here`, for each blob.
    static KV_READS_PER_PULL = BLOBS;
    // The CDN keeps nothing whose name has no extension.
    static BEHIND_CDN = false;
    #world;
    #flights;
    #memory = new Map();
    #revalidated = new Map();

    constructor(world) {
        this.#world = world;
        this.#flights = new Flights(world);
    }

    pointer() {
        return { set: 1, checked: 0 };
    }

    look(location, image, rate) {
        const { agenda, chance, kv } = this.#world;
        const { now } = agenda;
        const isolate = location * 64 + chance.below(this.#world.isolates[location]);
        let pointer = this.#memory.get(isolate);
        if (!pointer || now >= pointer.until) {
            pointer = { ...kv.read(now, location, POINTER), until: now + IN_MEMORY };
            this.#memory.set(isolate, pointer);
        }
        const age = now - pointer.checked;
        // Nothing is cached under the tag in the following cases: every pull of the next second, or of the next ten,
        // comes this way.
        if (age > 2 * TTL) return this.#ask(image, rate, 0);
        if (kv.read(now, location, key(pointer.set, image)) === undefined) return this.#ask(image, rate, 1);
        if (age <= TTL) return CACHED + chance.wait(rate);
        kv.reads += rate * IN_MEMORY;
        if (!(now < this.#revalidated.get(isolate) + IN_MEMORY)) {
            this.#revalidated.set(isolate, now);
            this.#board(image, 1);
        }
        return Math.max(IN_MEMORY, chance.wait(rate));
    }

    #ask(image, rate, reads) {
        const pulls = Math.max(1, Math.round(rate));
        this.#world.kv.reads += (pulls - 1) * reads;
        this.#board(image, pulls);
        return rate >= 1 ? 1 : this.#world.chance.wait(rate);
    }

    #board(image, pulls) {
        const { agenda, objects, backend, kv } = this.#world;
        const taken = objects.takeSome(agenda.now, image, pulls);
        if (taken > 0) this.#flights.join(image, (set, at) => kv.write(at, POINTER, { set, checked: at }));
        backend.images.add(agenda.now, "", pulls - taken);
    }
}

/** The design after: one object per tag, locations that know when it was asked, and a turn for each image. */
export class After {
    // `/v2/`, HEAD and GET of the manifest. The redirect rule answers for blobs, and the CDN keeps them.
    static REQUESTS_PER_PULL = 3;
    static KV_READS_PER_PULL = 0;
    static BEHIND_CDN = true;
    #world;
    #flights;
    #tag = { set: 1, previous: undefined, moved: 0, checked: -Infinity };
    // What each location knows of the tag, and which set's image it has in its caches. They keep it for a day.
    #known = [];
    #kept;

    constructor(world) {
        this.#world = world;
        this.#flights = new Flights(world);
        this.#kept = new Uint8Array(world.locations * world.images);
        for (let location = 0; location < world.locations; location++) {
            this.#known.push({ ...this.#tag });
            world.agenda.at(world.chance.wait(world.rateAt(location)), () => this.#check(location));
        }
    }

    pointer() {
        return { set: 1 };
    }

    /** The first pull at a location since its TTL: it asks the tag's object. */
    #check(location) {
        const { agenda, chance, objects, images, rateAt, isolates, lookAfter } = this.#world;
        const { now } = agenda;
        const before = this.#known[location];
        // Other isolates begin in the 50 ms until the answer is in the Cache API.
        const asking = 1 + Math.min(isolates[location] - 1, Math.floor(rateAt(location) * 0.05));
        let taken = false;
        for (let i = 0; i < asking; i++) taken = objects.take(now, POINTER) || taken;
        // A location that is refused goes on with what it knows.
        if (taken) this.#known[location] = this.#ask(now);
        const known = this.#known[location];
        if (known.set !== before.set) {
            for (let image = 0; image < images; image++) {
                lookAfter(location * images + image, Math.max(0, known.moved + turn(image) - now));
            }
        }
        const until = taken ? known.checked + TTL + chance.next() * LATE - now : 1;
        agenda.at(now + Math.max(1, until) + chance.wait(rateAt(location)), () => this.#check(location));
    }

    /** The object of the tag: it asks the backend when its TTL is over, and alone writes the pointer. */
    #ask(now) {
        const tag = this.#tag;
        if (now >= tag.checked + TTL) {
            const { backend, set, kv } = this.#world;
            backend.tags.add(now);
            tag.checked = now;
            if (set !== tag.set) {
                Object.assign(tag, { previous: tag.set, set, moved: now });
                kv.write(now, POINTER, { set });
            }
        }
        return { ...tag };
    }

    look(location, image) {
        const { agenda, chance, kv, objects, images } = this.#world;
        const { now } = agenda;
        const pair = location * images + image;
        const known = this.#known[location];
        const set = known.previous && now < known.moved + turn(image) ? known.previous : known.set;
        if (this.#kept[pair] === set) return undefined;
        if (kv.read(now, location, key(set, image))) {
            this.#kept[pair] = set;
            return undefined;
        }
        // The location tries to compose the image. A package has no record, in KV or in the bucket.
        kv.read(now, location, -0.5 - key(set, image));
        this.#world.bucketReads += 1;
        // The previous image is served meanwhile. The location's isolates ask once.
        if (!objects.take(now, image)) return IN_MEMORY + chance.next();
        const wait = this.#flights.join(image, () => {});
        agenda.at(now + wait, () => (this.#kept[pair] = set));
        return undefined;
    }
}

/** How many seconds after its tag an image changes. */
function turn(image) {
    return (image * 7919) % SPREAD;
}
