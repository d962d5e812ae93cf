//! How many files and connections this process may have open at once.
//!
//! Linux gives a process few descriptors at first, 1,024, for the sake of programs that cannot deal with more, and lets
//! it have as many as its hard limit says. A server takes them; the programs that it starts do not.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
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

/// Gives a process that was just started the limit that this one had at its start.
pub(crate) fn restore(process: Pid) {
    if let Some(original) = ORIGINAL.get() {
        // It may have ended.
        let _ = prlimit(Some(process), Resource::Nofile, *original);
    }
}
