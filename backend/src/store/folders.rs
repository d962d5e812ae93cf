//! The store's folders that several modules use.

/// The times of the last pulls.
pub(super) const PULLS: &str = "pulls";
/// Corrupt objects.
pub(super) const QUARANTINE: &str = "quarantine";
/// The state of garbage collection.
pub(super) const UPKEEP: &str = "upkeep";
