//! Binary caches: what they say of store paths, and the contents of store paths as streams.
//!
//! Firn substitutes from here: [`BinaryCaches::closure`] reads narinfos and checks them, [`BinaryCaches::open`] reads the
//! NAR of a path as a file tree, checks it meanwhile, and writes nothing. This room knows nothing of packages, layers and
//! images; it uses the trait of `packing` for trees.
//!
//! `crawl` reads the references of a whole package set, for layering: how many paths refer to a path, and which paths
//! occur together.

mod cache;
mod cache_info;
mod cache_url;
mod cached_path;
mod closure;
mod crawl;
mod error;
mod journal;
mod keys;
mod limits;
mod nar;
mod narinfo;
mod netrc;
mod probe;
mod transport;

pub use cache_url::{CacheUrl, ParseCacheUrlError};
pub use cached_path::{CachedClosure, CachedPath, CachedPathRecord, KnownPaths, NoneKnown, Source};
pub use crawl::{CrawlError, crawl};
pub use error::{BinaryCacheError, CacheFailure, NarError};
pub use journal::Journal;
pub use keys::{ParseKeysError, TrustedKeys};
pub use nar::NarTree;
pub use netrc::{Netrc, ParseNetrcError};
pub use transport::TransportError;

use cache::Cache;
use firn_shared::cache_key::CacheKey;
use limits::Limits;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::Semaphore;
use transport::Transport;

/// The binary caches that Firn substitutes from. Clones share connections and what is known of caches.
#[derive(Debug, Clone)]
pub struct BinaryCaches(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// In the order of the configuration.
    caches: Vec<Arc<Cache>>,
    keys: TrustedKeys,
    limits: Limits,
    /// The turns of downloads whose bytes wait in memory.
    ahead: Arc<Semaphore>,
    /// Sources that come last, by cache and location.
    doubted: moka::sync::Cache<(String, String), Doubt>,
}

/// Why a source comes last. The weaker reason is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    /// Another source delivered something else. One of them is wrong.
    Contradicted,
    /// It delivered something else than it should.
    Wrong,
}

/// How many downloads wait in memory.
const AHEAD: usize = 16;
/// How many doubts are remembered.
const DOUBTS: u64 = 10_000;

impl BinaryCaches {
    /// The caches at these URLs. Of equal URLs, the first counts. `netrc` has the passwords of private ones.
    ///
    /// # Errors
    /// If a client cannot be made, such as for a bucket that the environment does not configure.
    pub fn new(
        urls: &[CacheUrl],
        keys: TrustedKeys,
        netrc: Option<&Netrc>,
    ) -> Result<Self, BinaryCacheError> {
        Self::with_limits(urls, keys, netrc, Limits::default())
    }

    fn with_limits(
        urls: &[CacheUrl],
        keys: TrustedKeys,
        netrc: Option<&Netrc>,
        limits: Limits,
    ) -> Result<Self, BinaryCacheError> {
        let mut caches: Vec<Arc<Cache>> = Vec::new();
        if let Some(first) = urls.first() {
            let failed =
                |url: &CacheUrl, source| BinaryCacheError::Client { cache: url.name().into(), source };
            let client = transport::client(urls).map_err(|error| failed(first, error))?;
            for url in urls {
                if caches.iter().any(|cache| cache.url.name() == url.name()) {
                    continue;
                }
                let transport = Transport::new(url, &client, netrc).map_err(|error| failed(url, error))?;
                caches.push(Arc::new(Cache::new(url.clone(), transport, limits.clone())));
            }
        }
        let doubted = moka::sync::Cache::builder().time_to_live(limits.distrust).max_capacity(DOUBTS).build();
        let ahead = Arc::new(Semaphore::new(AHEAD));
        Ok(Self(Arc::new(Inner { caches, keys, limits, ahead, doubted })))
    }

    /// Stands for all that is believed: the trusted keys and the trusted caches. `None` if there are no caches.
    pub fn trust(&self) -> Option<CacheKey> {
        let trusted = self.0.caches.iter().filter(|cache| cache.url.is_trusted);
        let trusted: BTreeSet<&str> = trusted.map(|cache| cache.url.name()).collect();
        let key =
            CacheKey::builder("cache-trust-1").list(self.0.keys.texts().iter()).list(trusted.into_iter());
        (!self.is_empty()).then(|| key.build())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.caches.is_empty()
    }

    /// The content of a path, read from the first of its sources that delivers it, and checked meanwhile.
    ///
    /// Must be called in a Tokio runtime. The tree is read by a thread that may wait. An error at the end says that what
    /// was read before is wrong: nothing of it may be kept. [`NarError::to_be_replaced`] tells whether to open it
    /// anew.
    ///
    /// A few of the paths that are open are downloaded ahead. So all paths of a layer should be opened before it is packed.
    pub fn open(&self, path: &CachedPath) -> NarTree {
        self.open_counting(path, &Arc::default())
    }

    /// Like [`Self::open`]. Adds to `fetched` how many bytes are downloaded.
    pub fn open_counting(&self, path: &CachedPath, fetched: &Arc<AtomicU64>) -> NarTree {
        NarTree::new(self.clone(), path.clone(), Arc::clone(fetched))
    }

    /// The cache of this name.
    fn cache(&self, name: &str) -> Option<&Cache> {
        self.0.caches.iter().find(|cache| cache.url.name() == name).map(Arc::as_ref)
    }

    /// Remembers a doubt in a source, unless there is a stronger one.
    fn doubt(&self, source: &Source, doubt: Doubt) {
        let doubt = self.doubt_in(source).map_or(doubt, |known| known.max(doubt));
        self.0.doubted.insert((source.cache.clone(), source.location.clone()), doubt);
    }

    fn doubt_in(&self, source: &Source) -> Option<Doubt> {
        self.0.doubted.get(&(source.cache.clone(), source.location.clone()))
    }
}

#[cfg(test)]
mod tests;
