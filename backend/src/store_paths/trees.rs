//! Trees of store paths: on record, or read now.

use super::{PathTree, RecordedTree, Recorder, StorePathError, StorePaths};
use crate::{
    binary_cache::{CachedPath, NarError},
    packing::{PackingError, TreeReader},
    store::{LOOKUPS, RecordKind, StoreError, tree_key},
};
use firn_shared::{StorePath, nix::closure::PathInfo, oci::digest::NarHash};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

/// How many trees are read at once that are not on record.
const AT_ONCE: usize = 4;

/// Trees by store path.
pub(crate) type Trees = HashMap<StorePath, Arc<PathTree>>;

impl StorePaths {
    /// The trees of these paths. What is not on record is read now, from binary caches if they have this content, else from
    /// the Nix store.
    ///
    /// # Errors
    /// When a path cannot be read, or the store fails.
    pub(crate) async fn trees(&self, infos: &[PathInfo]) -> Result<Trees, StorePathError> {
        let lookups =
            infos.iter().map(async |info| Ok::<_, StoreError>((info, self.recorded_tree(info).await?)));
        let lookups: Vec<_> = lookups.collect();
        let found: Vec<_> = stream::iter(lookups).buffer_unordered(LOOKUPS).try_collect().await?;
        let (mut trees, mut missing) = (Trees::new(), Vec::new());
        for (info, tree) in found {
            match tree {
                Some(tree) => drop(trees.insert(info.path.clone(), tree)),
                None => missing.push(info),
            }
        }
        let sources = match self.sources(missing.iter().map(|info| (&info.path, &info.nar_hash))).await {
            // What is known of them comes from the Nix store.
            Err(StorePathError::Caches(_)) if missing.iter().all(|info| is_in_store(&info.path)) => {
                HashMap::new()
            }
            sources => sources?,
        };
        let reads: Vec<_> =
            missing.into_iter().map(|info| self.read_tree(info, sources.get(&info.path))).collect();
        let read: Vec<_> = stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
        trees.extend(read);
        Ok(trees)
    }

    /// Records the tree of a path with this content.
    pub(crate) fn record_tree(&self, path: &StorePath, nar_hash: &NarHash, tree: PathTree) -> Arc<PathTree> {
        let (key, tree) = (tree_key(path, nar_hash), Arc::new(tree));
        self.trees.insert(key, Arc::clone(&tree));
        self.writing.begin(&self.store, RecordKind::Tree, key, Arc::clone(&tree));
        tree
    }

    async fn recorded_tree(&self, info: &PathInfo) -> Result<Option<Arc<PathTree>>, StoreError> {
        let key = tree_key(&info.path, &info.nar_hash);
        if let Some(tree) = self.trees.get(&key) {
            return Ok(Some(tree));
        }
        let tree = self.store.record::<PathTree>(RecordKind::Tree, &key).await?.map(Arc::new);
        if let Some(tree) = &tree {
            self.trees.insert(key, Arc::clone(tree));
        }
        Ok(tree)
    }

    async fn read_tree(
        &self,
        info: &PathInfo,
        source: Option<&Arc<CachedPath>>,
    ) -> Result<(StorePath, Arc<PathTree>), StorePathError> {
        let mut attempts = 0;
        let tree = loop {
            attempts += 1;
            let reader = self.reader(&info.path, source.map(Arc::as_ref), &Arc::default());
            let read = tokio::task::spawn_blocking(move || PathTree::read(reader))
                .await
                .expect("reading does not panic");
            match read {
                Err(error) if worth_another_cache(&error, attempts) => {}
                read => break read?,
            }
        };
        Ok((info.path.clone(), self.record_tree(&info.path, &info.nar_hash, tree)))
    }
}

/// How often a path is read before what binary caches deliver is believed to stay wrong.
const ATTEMPTS: usize = 4;

/// Whether reading from the next binary cache may succeed, after this many attempts of which the last ended so.
pub(crate) fn worth_another_cache(error: &PackingError, attempts: usize) -> bool {
    attempts < ATTEMPTS && NarError::of(error).is_some_and(NarError::has_other)
}

fn is_in_store(path: &StorePath) -> bool {
    Path::new(path.as_str()).symlink_metadata().is_ok()
}

impl PathTree {
    /// Reads a tree to its end, for nothing but its names.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(reader: Box<dyn TreeReader>) -> Result<Self, PackingError> {
        let recorded = RecordedTree::default();
        let mut reader = Recorder::new(reader, recorded.clone(), || {});
        while reader.step()?.is_some() {}
        let nothing =
            || PackingError::Read { path: reader.origin().into(), source: ErrorKind::UnexpectedEof.into() };
        recorded.take().ok_or_else(nothing)
    }
}
