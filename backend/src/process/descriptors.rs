//! How many files and connections this process may have open at once.
//!
//! Linux starts a process with a soft limit of 1,024 descriptors, because some programs cannot handle more. A process
//! may raise it to its hard limit. The server does so; the programs that it starts get the original limit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::OnceLock;

/// The limits at the start of the process.
static ORIGINAL: OnceLock<Rlimit> = OnceLock::new();

/// The limit to assume if there is none.
const UNBOUNDED: u64 = 1 << 20;

/// Raises the limit as far as possible, and returns it.
pub(crate) fn raise() -> u64 {
    let original = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: original.maximum, maximum: original.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => {
            ORIGINAL.get_or_init(|| original);
        }
        // The server works with the old limit.
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
    limit()
}

/// The current limit.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(UNBOUNDED)
}

/// The limit at the start of this process, which the programs that it starts get. None if it was unbounded, or if
/// [`raise`] has not changed it.
pub(crate) fn original() -> Option<u64> {
    ORIGINAL.get()?.current
}
