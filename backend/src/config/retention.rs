//! What is kept in storage, and for how long.

use super::bounds::{mebibytes, seconds};
use clap::Args;
use std::time::Duration;

/// Bounds on what storage holds.
#[derive(Debug, Clone, Args)]
pub struct RetentionArgs {
    /// MiB that the storage may hold; with it, the server collects garbage by itself [default: unbounded]
    #[arg(long, env = "FIRN_DISK_BUDGET", value_name = "MIB", value_parser = mebibytes())]
    pub disk_budget: Option<u64>,

    /// Days without a pull after which garbage collection removes an image; must be longer than the edge keeps
    /// manifests
    #[arg(long, env = "FIRN_GC_UNUSED", value_name = "DAYS", default_value_t = 60)]
    pub gc_unused: u64,

    /// Days after which garbage collection removes an image even if it is pulled [default: never]
    #[arg(long, env = "FIRN_GC_AGE", value_name = "DAYS")]
    pub gc_age: Option<u64>,

    /// Seconds for which garbage collection keeps what was pulled or written; must be the same for all processes that
    /// share the storage, and longer than a client takes to pull an image
    #[arg(long, env = "FIRN_GC_GRACE", value_name = "SECONDS", value_parser = seconds(), default_value_t = 3600)]
    pub gc_grace: u64,
}

/// The rules of garbage collection.
#[derive(Debug, Clone, Copy)]
pub struct RetentionPolicy {
    /// Maximum size of the store in bytes.
    pub budget: Option<u64>,
    /// An image that was not pulled for this long is removed.
    pub unused: Duration,
    /// An image that was built this long ago is removed.
    pub age: Option<Duration>,
    /// Nothing is removed that was pulled or written within this time.
    pub grace: Duration,
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days.saturating_mul(24 * 3600))
}

impl RetentionArgs {
    /// The rules for garbage collection.
    pub fn policy(&self) -> RetentionPolicy {
        RetentionPolicy {
            budget: self.budget(),
            unused: days(self.gc_unused),
            age: self.gc_age.map(days),
            grace: Duration::from_secs(self.gc_grace),
        }
    }

    /// The disk budget, in bytes.
    fn budget(&self) -> Option<u64> {
        self.disk_budget.map(|mebibytes| mebibytes << 20)
    }
}
