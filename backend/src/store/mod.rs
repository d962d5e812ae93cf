//! Durable state: content in an object store, and nothing else.
//!
//! - `blobs/sha256/<2 digits>/<64 digits>`: layers, configs and manifests under their digest;
//! - `images/`, `layers/`, `packages/`, `names/`, each with `<2 digits>/<key>`: small immutable records.
//!
//! Nothing is ever changed in place. A blob appears whole and verified or not at all; a record says which
//! blobs belong together and is written after them. So a crash at any moment leaves at worst something that
//! nobody refers to.

mod blobs;
mod probe;
mod records;
mod staging;
mod tags;

pub use blobs::{BlobReader, StagedBlob};
pub use records::RecordKind;

use tags::NotedTags;

use object_store::{ObjectStore, local::LocalFileSystem, memory::InMemory};
use staging::Staging;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no store that Firn knows.
    #[error("storage {0:?} is not file://DIR or memory://")]
    Url(String),
    /// The object store failed.
    #[error("storage failed")]
    Object(#[from] object_store::Error),
    /// What is read is not what was written just before.
    #[error("storage does not give back what was written")]
    Unfaithful,
    /// A file failed.
    #[error("cannot use {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The object store, and a directory for blobs that are still being written.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    staging: Arc<Staging>,
    noted: NotedTags,
}

impl Store {
    /// Opens the store at a URL. Unfinished blobs lie in a folder in `staging`, which other processes may use
    /// too.
    ///
    /// # Errors
    /// When the URL means nothing or a directory cannot be made.
    pub fn open(url: &str, staging: &Path) -> Result<Self, StoreError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            |source| StoreError::File { path, source }
        };
        let objects: Arc<dyn ObjectStore> = if url == "memory://" {
            Arc::new(InMemory::new())
        } else if let Some(dir) = url.strip_prefix("file://").filter(|dir| dir.starts_with('/')) {
            std::fs::create_dir_all(dir).map_err(file(Path::new(dir)))?;
            // What is acknowledged must survive a power cut.
            Arc::new(LocalFileSystem::new_with_prefix(dir)?.with_fsync(true))
        } else {
            return Err(StoreError::Url(url.to_owned()));
        };
        let staging = Arc::new(Staging::new(staging).map_err(file(staging))?);
        Ok(Self { objects, staging, noted: tags::none_noted() })
    }
}

#[cfg(test)]
mod tests;
