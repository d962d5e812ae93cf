//! Durable state: content in an object store, and nothing else.
//!
//! - `blobs/sha256/<2 digits>/<64 digits>`: layers, configs and manifests under their digest;
//! - `images/`, `layers/`, `packages/`, `names/`, each with `<2 digits>/<key>`: small immutable records;
//! - `tags/<key of a name>/<tag>`: empty, the tags by which an image has been had;
//! - `staging/`, in directories alone: what is being written. Everywhere else it is in the data directory;
//! - `pulls/<2 digits>/<key of an image, or digits of its manifest's digest>`: as old as the last pull, with the number of
//!   uses in it;
//! - `composition/<2 digits>/<key>`: what an edge composes images from; [`firn_shared::composition`] says for how
//!   long it has to be kept;
//! - `composed/<2 digits>/<64 digits>`: empty, written by an edge that shares the bucket, for each blob of its own;
//! - `upkeep/`: what garbage collection remembers, and its lease; `quarantine/`: what was found to be corrupt.
//!
//! Nothing is ever changed in place. A blob appears whole and verified or not at all; a record says which
//! blobs belong together and is written after them. So a crash at any moment leaves at worst something that
//! nobody refers to.

mod blobs;
mod budget;
mod composition;
mod deletion;
mod files;
mod lease;
mod medium;
mod objects;
mod probe;
mod pulls;
mod quarantine;
mod records;
mod tags;

pub use blobs::{BlobReader, SMALL, StagedBlob};
pub use budget::{BudgetSpent, footprint};
pub use lease::Lease;
pub use medium::is_variable_of;
pub use objects::{ObjectKind, StoredObject};
pub use quarantine::Verdict;
pub use records::{ImageRecord, ManifestRecord, RecordKind};
pub(crate) use records::{NameRecord, names_key, package_key, survey_key};
pub(crate) use tags::folder as tags_folder;

use crate::process::OwnFolder;
use budget::Budget;
use files::Files;
use firn_shared::Digest;
use medium::{Medium, Variables};
use object_store::{
    ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, local::LocalFileSystem, memory::InMemory,
    path::Path as Location,
};
use pulls::Pulls;
use quarantine::Health;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tags::NotedTags;
use tokio::sync::Semaphore;

/// How many records a build reads or writes at once: a bucket may be far away.
pub(crate) const LOOKUPS: usize = 16;

/// Why state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no store that Firn knows.
    #[error(
        "storage {0:?} is none of file:///DIR, s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX], \
         az://CONTAINER[/PREFIX], memory://"
    )]
    Url(String),
    /// The environment's variables do not say how to reach the bucket.
    #[error("storage {url} cannot be used")]
    Bucket {
        /// Which one.
        url: String,
        /// Why.
        source: object_store::Error,
    },
    /// The object store failed.
    #[error("storage failed")]
    Object(#[from] object_store::Error),
    /// What is read is not what was written just before.
    #[error("storage does not give back what was written")]
    Unfaithful,
    /// What was staged is not what its writer digested.
    #[error("{0} was damaged before it was stored")]
    Damaged(Digest),
    /// A blob's bytes are not what its digest says; it is in quarantine now.
    #[error("{0} is corrupt")]
    Corrupt(Digest),
    /// The store overwrites an object that was to be written only where there is none.
    #[error("storage does not honour conditional puts (If-None-Match), which Firn's locks are made of")]
    Unconditional,
    /// Another process holds the lease, or this one could not renew it in time.
    #[error("the lease on the storage was lost to another process, or could not be renewed in time")]
    LeaseLost,
    /// There is no room left for what was to be written.
    #[error("storage is full")]
    Budget(#[source] BudgetSpent),
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
    /// How objects are written where they are files.
    files: Option<Files>,
    staging: Arc<OwnFolder>,
    /// How many large blobs may be on their way to a bucket: each takes memory.
    uploads: Arc<Semaphore>,
    noted: NotedTags,
    budget: Budget,
    health: Health,
    pulls: Pulls,
}

impl Store {
    /// Opens the store at a URL: `file:///DIR`, `memory://`, or a bucket (`s3://`, `gs://`, `az://`), which the
    /// environment's variables say how to reach. Unfinished blobs lie in a folder in `staging`, or beside the
    /// objects where those are files; other processes may use both too.
    ///
    /// # Errors
    /// When the URL means nothing or a directory cannot be made.
    pub fn open(url: &str, staging: &Path) -> Result<Self, StoreError> {
        Self::open_with(url, staging, &crate::process::own_environment::texts().collect())
    }

    /// The same with these variables instead of the environment's.
    fn open_with(url: &str, staging: &Path, variables: &Variables) -> Result<Self, StoreError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            |source| StoreError::File { path, source }
        };
        let medium = Medium::parse(url, variables)?;
        let staging = match &medium {
            // A finished blob is renamed, which takes the same file system.
            Medium::Files(dir) => &dir.join("staging"),
            Medium::Memory | Medium::Bucket(_) => staging,
        };
        let staging = Arc::new(OwnFolder::new(staging).map_err(file(staging))?);
        let mut files = None;
        let objects: Arc<dyn ObjectStore> = match medium {
            Medium::Memory => Arc::new(InMemory::new()),
            Medium::Bucket(bucket) => bucket,
            Medium::Files(dir) => {
                let objects = Arc::new(LocalFileSystem::new_with_prefix(&dir)?);
                files = Some(Files::new(dir, Arc::clone(&staging)));
                objects
            }
        };
        Ok(Self::new(objects, files, staging))
    }

    /// The store on objects that somebody else has opened. Unfinished blobs lie in a folder in `staging`.
    ///
    /// # Errors
    /// When a directory cannot be made.
    pub fn on(objects: Arc<dyn ObjectStore>, staging: &Path) -> Result<Self, StoreError> {
        let error = |source| StoreError::File { path: staging.to_owned(), source };
        Ok(Self::new(objects, None, Arc::new(OwnFolder::new(staging).map_err(error)?)))
    }

    fn new(objects: Arc<dyn ObjectStore>, files: Option<Files>, staging: Arc<OwnFolder>) -> Self {
        Self {
            objects,
            files,
            staging,
            uploads: Arc::new(Semaphore::new(blobs::UPLOADS)),
            noted: tags::none_noted(),
            budget: Budget::default(),
            health: Health::default(),
            pulls: Pulls::default(),
        }
    }

    /// Removes blobs that are being written, for when this process ends.
    pub(crate) fn remove_unfinished(&self) {
        self.staging.remove();
    }

    /// Writes a small object, durably, if there is room; it replaces one that is there.
    async fn put(&self, location: &Location, bytes: Vec<u8>) -> Result<(), StoreError> {
        let room = self.budget.reserve(bytes.len() as u64)?;
        self.put_unbounded(location, bytes).await?;
        room.keep();
        Ok(())
    }

    /// Writes a small object, durably; it replaces one that is there.
    async fn put_unbounded(&self, location: &Location, bytes: Vec<u8>) -> Result<(), StoreError> {
        match &self.files {
            Some(files) => files.write(location, bytes).await,
            None => {
                self.objects.put(location, PutPayload::from(bytes)).await?;
                Ok(())
            }
        }
    }

    /// Writes a small object, durably, where there is none. Returns whether it did; of several at once, one does.
    ///
    /// After an error it may be there all the same. A client of a bucket tries again by itself, so that `false` may be
    /// about an object that an earlier attempt has written.
    async fn create(&self, location: &Location, bytes: Vec<u8>) -> Result<bool, StoreError> {
        match &self.files {
            Some(files) => files.create(location, bytes).await,
            None => {
                let options = PutOptions::from(PutMode::Create);
                match self.objects.put_opts(location, PutPayload::from(bytes), options).await {
                    Ok(_) => Ok(true),
                    Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
