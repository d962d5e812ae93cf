//! Store paths that binary caches have.

use super::narinfo::{Authenticity, Narinfo};
use firn_shared::{StorePath, nix::closure::PathInfo};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// A store path that binary caches have. Its path info is authentic: signed by a trusted key, said by a trusted cache,
/// or proved by the path.
#[derive(Debug, Clone)]
pub struct CachedPath {
    /// What the caches say of it.
    pub info: PathInfo,
    /// Where its NAR is, the cache of the highest priority first. All caches give the same hash and references. If one of
    /// them vouches for the size, all give the same size.
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
    /// Size of the compressed NAR in bytes, if the cache says it and it can be true.
    pub file_size: Option<u64>,
    /// Size of the NAR in bytes, as the cache says it.
    pub(super) nar_size: u64,
    /// Whether that is authentic. It is not if the path alone proves the content.
    pub(super) vouches_for_size: bool,
    /// The narinfo, as far as it is needed.
    pub(super) narinfo: String,
}

/// What is recorded of a cached path: the narinfos, as far as they are needed. Whoever reads the record checks them as if they had just
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

    /// How much memory it takes, in bytes, roughly.
    pub fn weight(&self) -> usize {
        const REFERENCE: usize = 100;
        let sources = self.sources.iter().map(Source::weight).sum::<usize>();
        size_of::<Self>() + self.info.references.len() * REFERENCE + sources
    }

    /// Adds a source, if its cache describes the same content. Of sizes that differ, an authentic one counts. Without one, all
    /// remain possible.
    pub(super) fn add(&mut self, info: &PathInfo, source: Source) {
        let differs = |about: &str| {
            tracing::warn!(
                path = %info.path,
                counts = %self.sources[0].cache,
                differs = %source.cache,
                hashes = %format_args!("{} and {}", self.info.nar_hash, info.nar_hash),
                sizes = %format_args!("{} and {}", self.info.nar_size, info.nar_size),
                about,
                "binary caches disagree on a store path"
            );
        };
        if !self.has_content_of(info) {
            return differs("its content");
        }
        if info.nar_size != self.info.nar_size {
            differs("its size");
            match (self.has_vouched_size(), source.vouches_for_size) {
                (true, _) => return,
                (false, true) => {
                    self.sources.retain(|other| other.nar_size == source.nar_size);
                    self.info.nar_size = source.nar_size;
                }
                // So that nobody can make a path too large for an image.
                (false, false) => self.info.nar_size = self.info.nar_size.min(source.nar_size),
            }
        }
        self.sources.push(source);
    }

    /// Whether this is a description of the same content.
    pub(super) fn has_content_of(&self, info: &PathInfo) -> bool {
        (&self.info.nar_hash, &self.info.references) == (&info.nar_hash, &info.references)
    }

    /// Whether the size of the NAR is authentic.
    pub(super) fn has_vouched_size(&self) -> bool {
        self.sources.iter().any(|source| source.vouches_for_size)
    }

    /// How many bytes have to be downloaded, if no cache fails. Without the cache's word for it, the size of the NAR.
    pub fn download_size(&self) -> u64 {
        self.sources.first().and_then(|source| source.file_size).unwrap_or(self.info.nar_size)
    }
}

impl Source {
    /// `authenticity` is None if the cache itself is trusted.
    pub(super) fn new(cache: &str, narinfo: &Narinfo, authenticity: Option<&Authenticity>) -> Self {
        Self {
            cache: cache.to_owned(),
            location: narinfo.location().to_owned(),
            compression: narinfo.compression().to_owned(),
            file_size: narinfo.file_size(),
            nar_size: narinfo.info.nar_size,
            vouches_for_size: authenticity != Some(&Authenticity::Proved),
            narinfo: narinfo.kept(authenticity),
        }
    }

    /// How much memory it takes, in bytes, roughly.
    fn weight(&self) -> usize {
        size_of::<Self>() + self.cache.len() + self.location.len() + self.narinfo.len()
    }
}
