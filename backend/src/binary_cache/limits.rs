//! How long binary caches are waited for.

use std::time::Duration;

/// Limits of time and number. Tests have smaller ones.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// For a small file, with all its bytes.
    pub(super) small_file: Duration,
    /// Before a request is repeated for the first time; then four times as long.
    pub(super) pause: Duration,
    /// A cache that wants to be left alone for longer (`Retry-After`) has failed.
    pub(super) longest_pause: Duration,
    /// How long a cache is left alone after it failed.
    pub(super) aside: Duration,
    /// How long caches of lower priority may take longer than the others for a whole closure.
    pub(super) second_opinion: Duration,
    /// How many paths of a closure are looked up at once.
    pub(super) paths_at_once: usize,
    /// A cache that delivers less than `least_bytes` in this time is too slow.
    pub(super) patience: Duration,
    /// See `patience`.
    pub(super) least_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            small_file: Duration::from_secs(15),
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(5),
            aside: Duration::from_secs(60),
            second_opinion: Duration::from_secs(1),
            paths_at_once: 64,
            patience: Duration::from_secs(15),
            least_bytes: 16 << 10,
        }
    }
}
