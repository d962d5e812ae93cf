// The time in this isolate: what the world said last. As in production it moves with I/O only.

let offset = 0;
let standing;

const real = Date.now.bind(Date);

// `now` is the world's time in milliseconds; `isStanding` says whether it moves only when a test moves it.
export function setClock(now, isStanding) {
  standing = isStanding ? now : undefined;
  offset = now - real();
}

Date.now = () => standing ?? real() + offset;

// In real time: how often a timer looks whether the world's clock has moved.
const STEP_MILLISECONDS = 100;

const setRealTimer = globalThis.setTimeout.bind(globalThis);
const clearRealTimer = globalThis.clearTimeout.bind(globalThis);

// Lets timers end when a test moves the clock beyond their end. Without that they end in real time. `look` asks the world
// for the time.
export function moveTimers(look) {
  const timers = new Map();
  let last = 0;
  globalThis.setTimeout = (callback, milliseconds = 0, ...rest) => {
    last += 1;
    const id = last;
    const ends = { here: Date.now() + milliseconds, real: real() + milliseconds };
    const step = () => {
      const left = Math.min(ends.here - Date.now(), ends.real - real());
      const handle = setRealTimer(async () => {
        if (left <= STEP_MILLISECONDS) return fire();
        await look();
        // It may have been cleared meanwhile.
        if (timers.has(id)) step();
      }, Math.max(0, Math.min(left, STEP_MILLISECONDS)));
      timers.set(id, handle);
    };
    const fire = () => {
      timers.delete(id);
      callback(...rest);
    };
    step();
    return id;
  };
  globalThis.clearTimeout = (id) => {
    if (timers.has(id)) clearRealTimer(timers.get(id));
    timers.delete(id);
  };
}
