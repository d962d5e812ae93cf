//! The directory for everything that Firn keeps on this machine.

use crate::config::{ConfigError, StorageArgs};
use std::path::PathBuf;

/// The data directory, absolute and existing.
///
/// # Errors
/// When it cannot be made.
pub(super) fn make(args: &StorageArgs) -> Result<PathBuf, ConfigError> {
    let dir = args.data_dir()?;
    std::fs::create_dir_all(&dir)
        .map_err(|error| ConfigError(format!("--data {}: {error}", args.data.display())))?;
    Ok(dir)
}
