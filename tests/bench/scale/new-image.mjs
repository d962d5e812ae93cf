// One image that nobody has asked for before, and a rollout that pulls it everywhere at once. Each client is followed
// through its own retries.
import { Agenda, Chance, Counter, Kv, Objects, zipf } from "./world.mjs";

// How long a client waits for an answer of the backend (FIRN_WAIT), in seconds.
const PATIENCE = 25;
// `Retry-After` of a refusal for too many requests.
const COME_BACK = 10;
// How many misses a client network may cause in a minute (wrangler.toml, production).
const MISSES = 60;
// How many machines of one location are behind one address.
const BEHIND_ONE_ADDRESS = 100;
const ISOLATES = 4;
const IMAGE = "image";

// What a client does at 429: how many requests it makes in all, and how long it waits before the next.
// docs/slow-builds.md has the measurements. Docker gives up at 429 unless the edge redirects it to the same URL.
const CLIENTS = {
    docker: { tries: 10, wait: (answer) => (answer.redirect ? 0 : undefined) },
    containerd: { tries: 5, wait: () => 0 },
    podman: { tries: 5, wait: (answer) => answer.retryAfter },
};

/** Runs a design: this many clients begin within `seconds`; the build takes `build` seconds. */
export function rollOut(Design, { clients, locations, seconds, build, landed }) {
    const agenda = new Agenda();
    const chance = new Chance(11);
    const kv = new Kv(locations);
    const objects = new Objects();
    const backend = new Counter();
    const world = { agenda, chance, kv, objects, landed, builds: 0, flight: undefined, build: undefined };
    // A build serves all requests that arrive while it runs, and all after it.
    world.ask = (now) => {
        backend.add(now);
        if (world.build === undefined) {
            world.build = now + build;
            world.builds += 1;
            agenda.at(world.build, () => kv.write(world.build, IMAGE, true));
        }
        const done = world.build <= now + PATIENCE;
        return { at: done ? Math.max(now, world.build) : now + PATIENCE, ok: done, redirect: true, retryAfter: 5 };
    };
    const design = new Design(world);
    const failed = {};
    const waited = [];
    const byLocation = zipf(locations, 0.6);
    const locationOf = () => {
        let left = chance.next();
        return Math.max(0, byLocation.findIndex((share) => (left -= share) < 0));
    };
    const kinds = Object.keys(CLIENTS);
    const attempt = (client) => {
        client.tries += 1;
        const answer = design.answer(client);
        agenda.at(answer.at, () => {
            if (answer.ok) return waited.push(agenda.now - client.begun);
            const wait = CLIENTS[client.kind].wait(answer);
            if (wait === undefined || client.tries >= CLIENTS[client.kind].tries) {
                failed[client.kind] = (failed[client.kind] ?? 0) + 1;
                return undefined;
            }
            // A round trip, and the time until the client has noticed.
            return agenda.at(agenda.now + wait + 0.1 + chance.next() * 0.2, () => attempt(client));
        });
    };
    const arrived = new Map();
    for (let i = 0; i < clients; i++) {
        const location = locationOf();
        const before = arrived.get(location) ?? 0;
        arrived.set(location, before + 1);
        const network = `${location}/${Math.floor(before / BEHIND_ONE_ADDRESS)}`;
        const begun = chance.next() * seconds;
        const client = { kind: kinds[i % kinds.length], location, network, begun, tries: 0 };
        agenda.at(begun, () => attempt(client));
    }
    agenda.run(3600, (event) => event());
    return {
        builds: world.builds,
        questions: backend.total,
        busiestBackend: backend.busiest,
        busiestObject: objects.requests.busiest,
        refusedByObjects: objects.refused,
        failed: Object.values(failed).reduce((a, b) => a + b, 0),
        failedKinds: failed,
        longest: waited.reduce((a, b) => Math.max(a, b), 0),
    };
}

/** The object of the image: it asks the backend once for all who wait, and repeats the answer. */
function flight(world, now) {
    const running = world.flight;
    const repeated = running?.ok ? running.at + world.landed : running?.at;
    if (running && now < repeated) return { ...running, at: Math.max(now, running.at) };
    world.flight = world.ask(now);
    return world.flight;
}

/** Before: each client boards the object, and what it refuses goes to the backend. */
export class RollOutBefore {
    #world;
    #misses = new Map();

    constructor(world) {
        this.#world = world;
    }

    answer({ location, network }) {
        const { agenda, kv, objects } = this.#world;
        const { now } = agenda;
        if (kv.read(now, location, IMAGE)) return { at: now, ok: true };
        if (objects.take(now, IMAGE)) return flight(this.#world, now);
        // The limiter counts fixed minutes.
        const minute = `${network} ${Math.floor(now / 60)}`;
        const misses = (this.#misses.get(minute) ?? 0) + 1;
        this.#misses.set(minute, misses);
        if (misses > MISSES) return { at: now, ok: false, redirect: false, retryAfter: COME_BACK };
        return this.#world.ask(now);
    }
}

/** After: an isolate asks once for its clients; a busy object means "again", also for Docker. */
export class RollOutAfter {
    #world;
    #asked = new Map();
    #cached = new Map();

    constructor(world) {
        this.#world = world;
    }

    answer({ location }) {
        const { agenda, chance, kv } = this.#world;
        const { now } = agenda;
        if (now < this.#cached.get(location)) return { at: now, ok: true };
        if (kv.read(now, location, IMAGE)) return { at: now, ok: true };
        const isolate = location * ISOLATES + chance.below(ISOLATES);
        const known = this.#asked.get(isolate);
        if (known && now < known.at) return known;
        const answer = this.#board(now) ?? this.#later(now);
        this.#asked.set(isolate, answer);
        // The answer is kept under its tag at once.
        if (answer.ok) agenda.at(answer.at, () => this.#cached.set(location, answer.at + 30));
        return answer;
    }

    #board(now) {
        return this.#world.objects.take(now, IMAGE) ? flight(this.#world, now) : undefined;
    }

    /** One more attempt after a moment; then the client is asked to come again. */
    #later(now) {
        const at = now + this.#world.chance.next();
        return this.#board(at) ?? { at, ok: false, redirect: true, retryAfter: COME_BACK };
    }
}
