// What both designs run on: time, chance, Cloudflare's KV and Durable Objects with the rules of production, and a
// backend. All of it counts.

/** Random numbers that are the same in every run. */
export class Chance {
    #state;

    constructor(seed) {
        this.#state = seed;
    }

    /** A number from 0 up to, but not including, 1. */
    next() {
        // mulberry32
        this.#state = (this.#state + 0x6d2b79f5) | 0;
        let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
        t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    }

    /** The time until the next of events that happen this often a second, in seconds. */
    wait(rate) {
        return -Math.log(1 - this.next()) / rate;
    }

    below(count) {
        return Math.floor(this.next() * count);
    }
}

/** Events in the order of their times, a binary heap. */
export class Agenda {
    now = 0;
    #times = [];
    #events = [];

    at(time, event) {
        const [times, events] = [this.#times, this.#events];
        let i = times.length;
        while (i > 0) {
            const parent = (i - 1) >> 1;
            if (times[parent] <= time) break;
            times[i] = times[parent];
            events[i] = events[parent];
            i = parent;
        }
        times[i] = time;
        events[i] = event;
    }

    /** Runs `act` for each event until this time; `act` may add more. */
    run(until, act) {
        const [times, events] = [this.#times, this.#events];
        while (times.length && times[0] <= until) {
            this.now = times[0];
            const event = events[0];
            const [time, last] = [times.pop(), events.pop()];
            if (times.length) {
                let i = 0;
                for (;;) {
                    let child = 2 * i + 1;
                    if (child >= times.length) break;
                    if (child + 1 < times.length && times[child + 1] < times[child]) child += 1;
                    if (times[child] >= time) break;
                    times[i] = times[child];
                    events[i] = events[child];
                    i = child;
                }
                times[i] = time;
                events[i] = last;
            }
            act(event);
        }
        this.now = until;
    }
}

/** Counts events, and how many there were in the busiest second, and for which key. */
export class Counter {
    total = 0;
    busiest = 0;
    #seconds = new Map();

    /** Counts this many at a time, for a key. Returns how many there are in this second. */
    add(time, key = "", count = 1) {
        this.total += count;
        const second = Math.floor(time);
        const known = this.#seconds.get(key);
        const sum = known?.second === second ? known.sum + count : count;
        this.#seconds.set(key, { second, sum });
        if (sum > this.busiest) this.busiest = sum;
        return sum;
    }
}

/** KV: a location repeats for a minute what it has read, also that there was nothing. */
export class Kv {
    static SECONDS = 60;
    reads = 0;
    writes = new Counter();
    refused = 0;
    #values = new Map();
    #seen;

    constructor(locations) {
        this.#seen = Array.from({ length: locations }, () => new Map());
    }

    read(time, location, key) {
        this.reads += 1;
        const seen = this.#seen[location].get(key);
        if (seen && time < seen.until) return seen.value;
        const value = this.#shown(time, key);
        this.#seen[location].set(key, { value, until: time + Kv.SECONDS });
        return value;
    }

    /** How long a location repeats what it has read, and what that is. */
    repeated(location, key) {
        return this.#seen[location].get(key);
    }

    /** Writes a value; another location sees it a minute later at most. More than one a second are refused (429). */
    write(time, key, value) {
        if (this.writes.add(time, key) > 1) {
            this.refused += 1;
            return;
        }
        const versions = this.#values.get(key) ?? [];
        // Of those that show everywhere by now, only the last one matters.
        while (versions.length > 1 && versions[1].shows <= time) versions.shift();
        versions.push({ value, shows: time + Kv.SECONDS });
        this.#values.set(key, versions);
    }

    /** Fills KV before the simulation starts. */
    fill(key, value) {
        this.#values.set(key, [{ value, shows: -Infinity }]);
    }

    #shown(time, key) {
        return this.#values.get(key)?.findLast(({ shows }) => shows <= time)?.value;
    }
}

/** Durable Objects: above a rate, they refuse. */
export class Objects {
    static RATE = 1000;
    requests = new Counter();
    refused = 0;

    /** Whether an object takes a request. */
    take(time, name) {
        const taken = this.requests.add(time, name) <= Objects.RATE;
        if (!taken) this.refused += 1;
        return taken;
    }

    /** Of this many requests in this second, how many an object takes. */
    takeSome(time, name, count) {
        const sum = this.requests.add(time, name, count);
        const refused = Math.min(count, Math.max(0, sum - Objects.RATE));
        this.refused += refused;
        return count - refused;
    }
}

/** Shares that fall like 1 / rank^exponent, and add up to 1. */
export function zipf(count, exponent) {
    const weights = Array.from({ length: count }, (_, i) => 1 / (i + 1) ** exponent);
    const sum = weights.reduce((a, b) => a + b);
    return weights.map((weight) => weight / sum);
}
