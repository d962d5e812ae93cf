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
    /// How long a cache is left alone after it failed, unless it wants to be left alone for longer.
    pub(super) aside: Duration,
    /// How long it is left alone at most, whatever it wants.
    pub(super) longest_aside: Duration,
    /// How long a cache that has delivered something else than it should comes last.
    pub(super) distrust: Duration,
    /// How long is waited for what a cache says of its priority.
    pub(super) priority: Duration,
    /// How long caches of lower priority may take longer than the others for a whole closure.
    pub(super) second_opinion: Duration,
    /// How many paths of a closure are looked up at once.
    pub(super) paths_at_once: usize,
    /// A cache that delivers less than `least_bytes` in this time is too slow.
    pub(super) patience: Duration,
    /// See `patience`.
    pub(super) least_bytes: u64,
    /// A cache that would need longer than this for a whole NAR is too slow.
    pub(super) nar: Duration,
    /// The same as long as another cache has it.
    pub(super) nar_of_several: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            small_file: Duration::from_secs(15),
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(5),
            aside: Duration::from_secs(60),
            longest_aside: Duration::from_secs(600),
            distrust: Duration::from_secs(600),
            priority: Duration::from_secs(1),
            second_opinion: Duration::from_secs(1),
            paths_at_once: 64,
            patience: Duration::from_secs(15),
            least_bytes: 16 << 10,
            nar: Duration::from_secs(24 * 3600),
            nar_of_several: Duration::from_secs(1800),
        }
    }
}

impl Limits {
    /// The same for a NAR file of this size. `is_only` if no other cache has it.
    pub(super) fn of_file(&self, size: u64, is_only: bool) -> Self {
        let whole = if is_only { self.nar } else { self.nar_of_several };
        let share = self.patience.as_secs_f64() / whole.as_secs_f64();
        Self { least_bytes: self.least_bytes.max((size as f64 * share) as u64), ..self.clone() }
    }
}
