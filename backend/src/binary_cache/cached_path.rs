//! Store paths that binary caches have.

use super::narinfo::Narinfo;
use firn_shared::{StorePath, nix::closure::PathInfo};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// A store path that binary caches have. Its path info is authentic: signed by a trusted key, said by a trusted cache,
/// or proved by the path.
#[derive(Debug, Clone)]
pub struct CachedPath {
    /// What the caches say of it.
    pub info: PathInfo,
    /// Where its NAR is, the cache of the highest priority first. All caches give the same path info.
    pub sources: Vec<Source>,
    /// Whether the path info comes from a cache just now, so that it is worth recording.
    pub is_new: bool,
}

/// A store path's NAR in one cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// [`CacheUrl::name`](super::CacheUrl::name) of the cache.
    pub cache: String,
    /// Where the NAR is in the cache.
    pub location: String,
    /// How the NAR is compressed, as the cache says it: `xz`, `zstd`, `bzip2`, `gzip`, `none`.
    pub compression: String,
    /// Size of the compressed NAR in bytes, if the cache says it.
    pub file_size: Option<u64>,
    /// The narinfo as it came.
    pub(super) narinfo: String,
}

/// What is recorded of a cached path: the narinfos as they came. Whoever reads the record checks them as if they had just
/// come from a cache. So a record is no better than the keys that are trusted when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedPathRecord {
    /// Narinfos with the names of their caches.
    pub(super) narinfos: Vec<(String, String)>,
}

/// Looks up what was recorded of store paths.
pub trait KnownPaths: Send + Sync {
    /// The record of a path. A failure to read it is like its absence: the caches are asked again.
    fn find<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Option<CachedPathRecord>>;
}

/// Nothing was recorded.
#[derive(Debug, Clone, Copy)]
pub struct NoneKnown;

impl KnownPaths for NoneKnown {
    fn find<'a>(&'a self, _: &'a StorePath) -> BoxFuture<'a, Option<CachedPathRecord>> {
        Box::pin(std::future::ready(None))
    }
}

/// Store paths with all that they refer to, as far as caches have them.
#[derive(Debug, Clone, Default)]
pub struct CachedClosure {
    /// What caches have.
    pub paths: Vec<CachedPath>,
    /// What no cache has. What these refer to is unknown.
    pub missing: Vec<StorePath>,
}

impl CachedPath {
    /// What is to be recorded of it.
    pub fn record(&self) -> CachedPathRecord {
        let narinfos =
            self.sources.iter().map(|source| (source.cache.clone(), source.narinfo.clone())).collect();
        CachedPathRecord { narinfos }
    }

    /// How many bytes have to be downloaded, if no cache fails. Without the cache's word for it, the size of the NAR.
    pub fn download_size(&self) -> u64 {
        self.sources.first().and_then(|source| source.file_size).unwrap_or(self.info.nar_size)
    }
}

impl Source {
    pub(super) fn new(cache: &str, narinfo: &Narinfo, text: String) -> Self {
        Self {
            cache: cache.to_owned(),
            location: narinfo.location().to_owned(),
            compression: narinfo.compression().to_owned(),
            file_size: narinfo.file_size(),
            narinfo: text,
        }
    }
}
