//! Failures that would be the same at the next attempt are remembered, so that asking again costs no work.

use moka::sync::Cache;
use std::hash::Hash;
use std::time::Duration;

/// How many of a kind are remembered.
const MAX_REMEMBERED: u64 = 10_000;

/// What is remembered of failures of one kind, each for this long.
pub(crate) fn for_a_while<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static>(
    ttl: Duration,
) -> Cache<K, V> {
    Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(ttl).build()
}
