//! Durable state: all of it is in an object store.
//!
//! - `blobs/sha256/<2 digits>/<64 digits>`: layers, configs and manifests by their digest;
//! - `images/`, `layers/`, `packages/`, `names/`, each with `<2 digits>/<key>`: small immutable records;
//! - `tags/<key of a name>/<tag>`: empty; the tags by which an image was pulled;
//! - `staging/`: files that are being written. Only in directories; for other stores they are in the data directory;
//! - `pulls/<2 digits>/<key of an image, or digits of its manifest's digest>`: the number of uses. Its time is that
//!   of the last pull;
//! - `composition/<2 digits>/<key>`: records from which an edge composes images; [`firn_shared::composition`] says
//!   how long they must be kept;
//! - `composed/<2 digits>/<64 digits>`: empty; written for each of its own blobs by an edge that shares the bucket;
//! - `upkeep/`: state of garbage collection, and its lease; `quarantine/`: corrupt objects.
//!
//! Nothing is changed in place. A blob becomes visible when it is complete and verified. A record names the blobs
//! that belong together, and is written after them. So a crash leaves at worst objects that nothing refers to.

mod blobs;
mod budget;
mod composition;
mod deletion;
mod files;
mod folders;
mod lease;
mod medium;
mod objects;
mod probe;
mod pulls;
mod quarantine;
mod records;
mod tags;
mod tree;

pub use blobs::{BlobReader, SMALL, StagedBlob};
pub use budget::{BudgetSpent, footprint};
pub use lease::Lease;
pub use medium::is_variable_of;
pub(crate) use medium::s3_bucket;
pub use objects::{ObjectKind, StoredObject};
pub use quarantine::Verdict;
#[cfg(test)]
pub(crate) use records::recorded_images;
pub use records::{ImageRecipe, ImageRecord, ImageRecordError, RecordKind};
pub(crate) use records::{NameRecord, names_key, package_key, path_info_key, survey_key, tree_key};
pub(crate) use tags::folder as tags_folder;
pub(crate) use tree::Tree;

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

/// The message for clients where the store cannot be read or written.
pub(crate) const STORE_FAILED: &str =
    "this registry's storage does not work at the moment; its operator finds the reason in the log";

/// Why the store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL does not name a store that Firn supports.
    #[error(
        "storage {0:?} is none of file:///DIR, s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX], \
         az://CONTAINER[/PREFIX], memory://"
    )]
    Url(String),
    /// The environment variables do not configure access to the bucket.
    #[error("storage {url} cannot be used")]
    Bucket {
        /// The bucket's URL.
        url: String,
        /// The cause.
        source: object_store::Error,
    },
    /// The object store failed.
    #[error("storage failed")]
    Object(#[from] object_store::Error),
    /// The bytes that were read are not those written just before.
    #[error("storage does not give back what was written")]
    Unfaithful,
    /// The staged bytes do not have the digest that their writer computed.
    #[error("{0} was damaged before it was stored")]
    Damaged(Digest),
    /// A blob's bytes do not have its digest. It is in quarantine now.
    #[error("{0} is corrupt")]
    Corrupt(Digest),
    /// The store overwrote an object in a conditional put.
    #[error("storage does not support conditional puts (If-None-Match), which Firn's locks need")]
    Unconditional,
    /// Another process holds the lease, or this one could not renew it in time.
    #[error("the lease on the storage was lost to another process, or could not be renewed in time")]
    LeaseLost,
    /// There is no room for the object.
    #[error("storage is full")]
    Budget(#[source] BudgetSpent),
    /// A file or directory cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// The object store, and a directory for blobs that are being written.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// Writes objects, if they are files.
    files: Option<Files>,
    staging: Arc<OwnFolder>,
    /// How many large blobs may be uploaded at once. Each upload takes memory.
    uploads: Arc<Semaphore>,
    noted: NotedTags,
    budget: Budget,
    health: Health,
    pulls: Pulls,
}

impl Store {
    /// Opens the store at a URL: `file:///DIR`, `memory://`, or a bucket (`s3://`, `gs://`, `az://`), to which
    /// environment variables configure the access. Unfinished blobs are in a folder in `staging`, or beside the
    /// objects if those are files. Other processes may use both too.
    ///
    /// # Errors
    /// If the URL is invalid or a directory cannot be created.
    pub fn open(url: &str, staging: &Path) -> Result<Self, StoreError> {
        Self::open_with(url, staging, &crate::process::own_environment::texts().collect())
    }

    /// Like [`Self::open`], with these variables instead of the environment's.
    fn open_with(url: &str, staging: &Path, variables: &Variables) -> Result<Self, StoreError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            |source| StoreError::File { path, source }
        };
        let medium = Medium::parse(url, variables)?;
        let staging = match &medium {
            // A finished blob is renamed. That requires the same file system.
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

    /// A store on objects that the caller has opened. Unfinished blobs are in a folder in `staging`.
    ///
    /// # Errors
    /// If a directory cannot be created.
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

    /// Removes blobs that are being written, before this process ends.
    pub(crate) fn remove_unfinished(&self) {
        self.staging.remove();
    }

    /// Writes a small object durably, if the budget has room for it. Replaces an existing one.
    async fn put(&self, location: &Location, bytes: Vec<u8>) -> Result<(), StoreError> {
        let room = self.budget.reserve(bytes.len() as u64)?;
        self.put_unbounded(location, bytes).await?;
        room.keep();
        Ok(())
    }

    /// Writes a small object durably. Replaces an existing one.
    async fn put_unbounded(&self, location: &Location, bytes: Vec<u8>) -> Result<(), StoreError> {
        match &self.files {
            Some(files) => files.write(location, bytes).await,
            None => {
                self.objects.put(location, PutPayload::from(bytes)).await?;
                Ok(())
            }
        }
    }

    /// Writes a small object durably unless it exists. Returns whether it was written. If several callers try at
    /// once, one of them succeeds.
    ///
    /// After an error the object may exist nevertheless. The client of a bucket retries by itself, so `false` may be
    /// about an object that an earlier attempt wrote.
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
