//! Waits until something is true, with a time limit.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longer than anything takes on a slow, busy machine, unless it is stuck. Nothing is concluded from this time; only
/// a failing test takes this long.
pub const LONG: Duration = Duration::from_secs(600);

const STEP: Duration = Duration::from_millis(20);

/// Like [`until`], with an asynchronous `ask` and the limit [`LONG`].
///
/// # Panics
/// See [`until`].
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < LONG, "{what}: not within {} s", LONG.as_secs());
        tokio::time::sleep(STEP).await;
    }
}

/// Calls `ask` until it returns an answer.
///
/// # Panics
/// If there is none in time. The message says what was awaited.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "{what}: not within {} s", limit.as_secs());
        sleep(STEP);
    }
}
