//! What Nix may use, and when it is kept apart from Firn.

use std::time::Duration;

/// What evaluations and builds may use.
#[derive(Debug, Clone, Copy)]
pub struct NixLimits {
    /// The time that the evaluations of one image may take together.
    pub eval_time: Duration,
    /// The time that downloads of one evaluation may take besides.
    pub download_time: Duration,
    /// The time after which a build is given up.
    pub build_time: Duration,
    /// The address space of one evaluation, in bytes.
    pub eval_memory: u64,
    /// The memory of Nix and the builders of one image together, in bytes; none where it is unbounded.
    pub build_memory: Option<u64>,
    /// How many evaluations may run at once.
    pub evaluations: usize,
    /// How many builds may run at once.
    pub realisations: usize,
}

/// When Nix runs in namespaces of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolationPolicy {
    /// Where callers choose what is evaluated, if this machine can do it.
    Auto,
    /// Always, or not at all: without isolation there is no Nix.
    Always,
    /// Never.
    Never,
}
