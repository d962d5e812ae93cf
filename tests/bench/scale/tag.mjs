// A tag with many images in use everywhere, which moves once. Only pulls that no cache of a location answers are
// events; the others are counted by their rate.
import { Agenda, Chance, Counter, Kv, Objects, zipf } from "./world.mjs";

/** When the tag moves, and when the simulation ends, in seconds. */
export const MOVE = 900;
export const END = 1800;
// FIRN_TAG_TTL_SECONDS.
const TTL = 300;
// How long the Cache API keeps the answer to a tag (edge/src/cache.rs).
const CACHED = 30;
// How long an isolate keeps a pointer, and does not repeat a revalidation (edge/src/memory.rs, before).
const IN_MEMORY = 10;
// How long the backend takes for an image of which all packages are known, and for one with a new package.
const QUICK = 0.3;
const PACKING = 5;
// Over how many seconds images of a moved tag change (shared/src/link/tag_pointer.rs).
const SPREAD = 60;
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
    const world = { agenda, chance, kv, objects, backend, landed, images, set: 1 };
    world.isolates = byLocation.map((share) => {
        return Math.min(64, Math.max(2, Math.ceil((rate * share * Design.REQUESTS_PER_PULL) / ISOLATE_RATE)));
    });
    const design = new Design(world);
    kv.fill(POINTER, design.pointer());
    for (let image = 0; image < images; image++) kv.fill(key(1, image), true);
    const rateOf = (pair) => rate * byLocation[Math.floor(pair / images)] * byImage[pair % images];
    for (let pair = 0; pair < locations * images; pair++) agenda.at(chance.wait(rateOf(pair)), pair);
    const act = (event) => {
        if (typeof event === "function") return event();
        const next = design.look(Math.floor(event / images), event % images, rateOf(event));
        if (agenda.now + next <= END) agenda.at(agenda.now + next, event);
    };
    agenda.run(MOVE, act);
    const steady = { questions: backend.images.total + backend.tags.total, images: backend.images.total };
    const before = { kv_reads: kv.reads, kv_writes: kv.writes.total, object_requests: objects.requests.total };
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
            worker_requests: rate * END * Design.REQUESTS_PER_PULL,
            kv_reads: kv.reads + rate * END * Design.KV_READS_PER_PULL,
            kv_writes: kv.writes.total,
            object_requests: objects.requests.total,
        },
        // From when the tag moved.
        since: {
            images: backend.images.total - steady.images,
            kv_reads: kv.reads - before.kv_reads,
            kv_writes: kv.writes.total - before.kv_writes,
            object_requests: objects.requests.total - before.object_requests,
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
    #tag = { set: 1, previous: undefined, moved: 0, checked: 0, jitter: 0 };
    #locations = new Map();

    constructor(world) {
        this.#world = world;
        this.#flights = new Flights(world);
    }

    pointer() {
        return { set: 1 };
    }

    look(location, image, rate) {
        const { agenda, chance, kv, objects } = this.#world;
        const { now } = agenda;
        let known = this.#locations.get(location);
        if (!known || now > known.checked + TTL + known.late) {
            // Other isolates of the location begin in the 50 ms until the answer is in the Cache API.
            const asking = known ? 1 + Math.min(this.#world.isolates[location] - 1, Math.floor(rate * 0.05)) : 1;
            for (let i = 0; i < asking; i++) {
                // A location that is refused goes on with what it knows.
                if (objects.take(now, POINTER)) known = { ...this.#check(now), late: chance.next() * (TTL / 5) };
            }
            this.#locations.set(location, known);
        }
        const turned = now - known.moved >= (image * 7919) % SPREAD;
        const next = CACHED + chance.wait(rate);
        if (known.previous && !turned) {
            kv.read(now, location, key(known.previous, image));
            return next;
        }
        if (kv.read(now, location, key(known.set, image))) return next;
        // The previous image is served meanwhile, and the location's isolates ask once.
        if (known.previous) kv.read(now, location, key(known.previous, image));
        if (!objects.take(now, image)) return 1 + chance.wait(rate);
        return this.#flights.join(image, () => {}) + next;
    }

    #check(now) {
        const tag = this.#tag;
        if (now >= tag.checked + TTL + tag.jitter || now === 0) {
            const { backend, set, kv, chance } = this.#world;
            backend.tags.add(now);
            tag.checked = now;
            tag.jitter = chance.next() * (TTL / 5);
            if (set !== tag.set) {
                Object.assign(tag, { previous: tag.set, set, moved: now });
                kv.write(now, POINTER, { set });
            }
        }
        return { ...tag };
    }
}
