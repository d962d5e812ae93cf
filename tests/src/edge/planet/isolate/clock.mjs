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
