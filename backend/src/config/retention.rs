//! What is kept in storage, and for how long.

use super::bounds::{mebibytes, seconds};
use crate::{
    store::{Store, StoreError},
    upkeep::Policy,
};
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

fn days(days: u64) -> Duration {
    Duration::from_secs(days.saturating_mul(24 * 3600))
}

impl RetentionArgs {
    /// The rules for garbage collection.
    pub fn policy(&self) -> Policy {
        Policy {
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

    /// Applies these limits to the store.
    ///
    /// # Errors
    /// If the size of the stored objects cannot be determined.
    pub async fn limit(&self, store: Store) -> Result<Store, StoreError> {
        let store = store.with_grace(self.policy().grace);
        if let Some(bytes) = self.budget() {
            store.limit(bytes).await?;
        }
        Ok(store)
    }
}
