// What this isolate counts for itself, until the world asks.

export const tally = { pending: 0, points: [], log_lines: 0, rows_read: 0, rows_written: 0 };

for (const level of ["debug", "error", "info", "log", "warn"]) {
  const write = console[level].bind(console);
  console[level] = (...values) => {
    tally.log_lines += 1;
    write(...values);
  };
}

// Counts work that is under way.
export async function pending(work) {
  tally.pending += 1;
  try {
    return await work();
  } finally {
    tally.pending -= 1;
  }
}
