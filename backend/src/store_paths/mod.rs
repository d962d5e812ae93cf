//! Store paths, wherever their files are: in binary caches, or in this machine's Nix store.
//!
//! `closure` finds out what binary caches have, `trees` reads what store paths hold. Both are recorded: what is said of a path
//! never changes. `recorder` notes a tree while it is packed, so that nothing is read twice.
//!
//! Nothing here knows packages, layers and images, or realises anything.

mod closure;
mod error;
mod recorder;
mod tree;
mod trees;
mod writing;

pub use error::StorePathError;
pub(crate) use recorder::MAX_PROPAGATED;
pub use recorder::{RecordedTree, Recorder};
pub use tree::{PathTree, TreeNode};
pub(crate) use trees::Spoilt;

use crate::{
    binary_cache::{BinaryCaches, CachedPath},
    packing::{DiskTree, TreeReader},
    store::Store,
};
use firn_shared::{StorePath, cache_key::CacheKey};
use moka::sync::Cache;
use recorder::Taken;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use writing::Writing;

/// How much memory the kept path infos may take, in bytes; one takes 1 to 2 kB.
const MAX_PATHS: u64 = 40 << 20;
/// How much memory the kept trees may take, in bytes.
const MAX_TREES: u64 = 64 << 20;

/// What is known of store paths.
pub struct StorePaths {
    store: Store,
    caches: BinaryCaches,
    /// What caches say of paths, checked.
    known: Cache<StorePath, Arc<CachedPath>>,
    /// Trees that were needed not long ago.
    trees: Cache<CacheKey, Arc<PathTree>>,
    /// What recording trees takes.
    taken: Taken,
    writing: Writing,
}

impl StorePaths {
    /// The store paths of these binary caches and of the Nix store, with their records in this store.
    pub(crate) fn new(store: Store, caches: BinaryCaches) -> Arc<Self> {
        let weight = |_: &CacheKey, tree: &Arc<PathTree>| tree.weight();
        let trees = Cache::builder().max_capacity(MAX_TREES).weigher(weight).build();
        let weight = |_: &StorePath, path: &Arc<CachedPath>| u32::try_from(path.weight()).unwrap_or(u32::MAX);
        let known = Cache::builder().max_capacity(MAX_PATHS).weigher(weight).build();
        let (taken, writing) = Default::default();
        Arc::new(Self { store, caches, known, trees, taken, writing })
    }

    /// Whether there are binary caches. Otherwise all store paths come from the Nix store.
    pub(crate) fn has_caches(&self) -> bool {
        !self.caches.is_empty()
    }

    /// Stands for the keys and the caches that are trusted: [`BinaryCaches::trust`].
    pub(crate) fn trust(&self) -> Option<CacheKey> {
        self.caches.trust()
    }

    /// Reads a path from binary caches, and adds to `fetched` how many bytes are downloaded; without a source in caches,
    /// reads it from the Nix store.
    pub(crate) fn reader(
        &self,
        path: &StorePath,
        source: Option<&CachedPath>,
        fetched: &Arc<AtomicU64>,
    ) -> Box<dyn TreeReader> {
        match source {
            Some(source) => Box::new(self.caches.open_counting(source, fetched)),
            None => Box::new(DiskTree::new(path.as_str().into())),
        }
    }
}
