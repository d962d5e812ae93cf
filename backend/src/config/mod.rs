//! Options: one struct per concern. Each option has its environment variable and default in one place, and is read
//! once.

mod bounds;
mod caches;
mod clients;
mod image;
mod nix;
mod nixery;
mod retention;
mod secret;
mod source;
mod storage;

pub(crate) use bounds::seconds;
pub use caches::{BuildPolicy, CacheArgs};
pub use clients::ClientArgs;
pub use image::ImageArgs;
pub use nix::{IsolationArg, NixArgs};
pub use nixery::{Alias, nixery_variables, with_nixery_aliases};
pub use retention::{RetentionArgs, RetentionPolicy};
pub use secret::{MetricsArgs, SecretArgs};
pub use source::SourceArgs;
pub use storage::StorageArgs;

/// Options that contradict each other or are invalid. Printed as one line; the exit code is 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);
