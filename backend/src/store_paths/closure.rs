//! What binary caches have: closures, and sources of single paths.

use super::{StorePathError, StorePaths};
use crate::{
    binary_cache::{CachedClosure, CachedPath, CachedPathRecord, KnownPaths},
    error_chain::chain,
    store::{RecordKind, StoreError, path_info_key},
};
use firn_shared::{StorePath, oci::digest::NarHash};
use futures::{FutureExt, future::BoxFuture};
use std::collections::HashMap;
use std::sync::Arc;

impl KnownPaths for StorePaths {
    fn find<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Option<CachedPathRecord>> {
        async move {
            if let Some(known) = self.known.get(path) {
                return Some(known.record());
            }
            let found = self.store.record(RecordKind::PathInfo, &path_info_key(path)).await;
            found.unwrap_or_else(|error| {
                tracing::warn!(%path, error = %chain(&error), "a path info cannot be read, and is asked for again");
                None
            })
        }
        .boxed()
    }
}

impl StorePaths {
    /// These paths and all that they refer to, as far as caches have them. `progress` is called with how many paths are done,
    /// and how many are known so far.
    ///
    /// # Errors
    /// When no cache has a path and one of them cannot tell.
    pub(crate) async fn closure(
        &self,
        roots: &[StorePath],
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<CachedClosure, StorePathError> {
        let closure = self.caches.closure(roots, self, progress).await?;
        for path in &closure.paths {
            if path.is_new {
                let key = path_info_key(&path.info.path);
                self.writing.begin(&self.store, RecordKind::PathInfo, key, Arc::new(path.record()));
            }
            let path = CachedPath { is_new: false, ..path.clone() };
            self.known.insert(path.info.path.clone(), Arc::new(path));
        }
        Ok(closure)
    }

    /// Those of these paths that caches have with this content.
    ///
    /// # Errors
    /// As [`StorePaths::closure`].
    pub(crate) async fn sources<'a>(
        &self,
        wanted: impl IntoIterator<Item = (&'a StorePath, &'a NarHash)>,
    ) -> Result<HashMap<StorePath, Arc<CachedPath>>, StorePathError> {
        let wanted: HashMap<&StorePath, &NarHash> = wanted.into_iter().collect();
        if !self.has_caches() {
            return Ok(HashMap::new());
        }
        let unknown: Vec<StorePath> = wanted
            .keys()
            .filter(|path| !self.known.contains_key(**path))
            .map(|path| (*path).clone())
            .collect();
        let found = match unknown.is_empty() {
            true => CachedClosure::default(),
            false => self.closure(&unknown, &|_, _| {}).await?,
        };
        let found = found.paths.into_iter().map(Arc::new);
        let known = wanted.keys().filter_map(|path| self.known.get(*path));
        let sources = known.chain(found).filter(|source| {
            wanted.get(&source.info.path).is_some_and(|hash| **hash == source.info.nar_hash)
        });
        Ok(sources.map(|source| (source.info.path.clone(), source)).collect())
    }
    /// Forgets what caches said of a path that they do not have any more, or not with this content.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn forget(&self, path: &StorePath) -> Result<(), StoreError> {
        // The record may not be written yet.
        self.written().await;
        self.known.invalidate(path);
        self.store.remove_record(RecordKind::PathInfo, &path_info_key(path)).await
    }
}
