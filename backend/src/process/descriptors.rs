//! How many files and connections this process may have open at once.
//!
//! Linux gives a process few descriptors at first, 1,024, for the sake of programs that cannot deal with more, and lets
//! it have as many as its hard limit says. A server takes them; the programs that it starts do not.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::OnceLock;

/// What the limits were at the start.
static ORIGINAL: OnceLock<Rlimit> = OnceLock::new();

/// How many there may be where nothing bounds them.
const UNBOUNDED: u64 = 1 << 20;

/// Raises the limit as far as it goes, and returns it.
pub(crate) fn raise() -> u64 {
    let original = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: original.maximum, maximum: original.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => {
            ORIGINAL.get_or_init(|| original);
        }
        // It does as it is.
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
    limit()
}

/// How many there may be.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(UNBOUNDED)
}

/// How many there could be at the start of this process, if that was bounded and there may be more now: what programs
/// get that it starts.
pub(crate) fn original() -> Option<u64> {
    ORIGINAL.get()?.current
}
