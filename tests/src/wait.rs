//! Waiting for something to become true, with a bound.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longer than anything takes that is not stuck, on a slow machine that does much else besides: nothing is proven by
/// it, and only what is broken takes so long.
pub const LONG: Duration = Duration::from_secs(600);

const STEP: Duration = Duration::from_millis(20);

/// As [`until`], where asking takes waiting, for as long as anything may take.
///
/// # Panics
/// Likewise.
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

/// Asks until there is an answer.
///
/// # Panics
/// When there is none in time; the message says what was awaited.
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
