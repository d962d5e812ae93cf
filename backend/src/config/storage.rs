//! Where state is kept.

use super::ConfigError;
use clap::Args;
use std::path::PathBuf;

/// State on this machine, and the object store.
#[derive(Debug, Clone, Args)]
pub struct StorageArgs {
    /// Directory for everything Firn keeps on this machine
    #[arg(long, env = "FIRN_DATA", value_name = "DIR", default_value = ".firn")]
    pub data: PathBuf,

    /// URL of the object store for blobs and records: file:///DIR, s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX],
    /// az://CONTAINER[/PREFIX] or memory://; access to buckets is configured by the environment's AWS_*, GOOGLE_* or
    /// AZURE_* [default: the folder storage in --data]
    #[arg(long, env = "FIRN_STORAGE", value_name = "URL")]
    pub storage: Option<String>,
}

impl StorageArgs {
    /// The data directory as an absolute path. It may not exist yet.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        let error = |error| ConfigError(format!("--data {}: {error}", self.data.display()));
        std::path::absolute(&self.data).map_err(error)
    }

    /// The object store's URL.
    ///
    /// # Errors
    /// If the data directory cannot be created.
    pub fn storage_url(&self) -> Result<String, ConfigError> {
        match &self.storage {
            Some(url) => Ok(url.clone()),
            None => Ok(format!("file://{}", self.data_dir()?.join("storage").display())),
        }
    }
}
