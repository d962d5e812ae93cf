//! Trees of store paths: on record, or read now.

use super::{
    PathTree, RecordedTree, Recorder, StorePathError, StorePaths,
    recorder::{MAX_RECORDED, Taken},
};
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

    /// Reads the tree of a path. That of a binary cache has the content that its hash says, so that it is recorded. What the Nix
    /// store has by now may be another content.
    async fn read_tree(
        &self,
        info: &PathInfo,
        source: Option<&Arc<CachedPath>>,
    ) -> Result<(StorePath, Arc<PathTree>), StorePathError> {
        let mut spoilt = Spoilt::default();
        let mut most = MAX_RECORDED;
        let tree = loop {
            let reader = self.reader(&info.path, source.map(Arc::as_ref), &Arc::default());
            let taken = self.taken.clone();
            let read = tokio::task::spawn_blocking(move || PathTree::read_up_to(most, taken, reader))
                .await
                .expect("reading does not panic");
            match read {
                Ok(Some(tree)) => break tree,
                // It is so large, but it is what it should be: that is known now.
                Ok(None) => most = usize::MAX,
                Err(error) if spoilt.worth_another_cache(&error) => {}
                Err(error) => {
                    if let Some(path) = NarError::of(&error).and_then(NarError::gone) {
                        self.forget(path).await?;
                    }
                    return Err(error.into());
                }
            }
        };
        let tree = match source {
            Some(_) => self.record_tree(&info.path, &info.nar_hash, tree),
            None => Arc::new(tree),
        };
        Ok((info.path.clone(), tree))
    }
}

/// How often one binary cache may spoil what is read.
const ATTEMPTS: usize = 4;

/// How often each binary cache has spoiled what is read. They are counted apart, so that one that lies about each of many
/// paths does not use up the attempts of the others.
#[derive(Debug, Default)]
pub(crate) struct Spoilt(HashMap<String, usize>);

impl Spoilt {
    /// Whether reading from the next binary cache may succeed, after an attempt that ended so.
    pub(crate) fn worth_another_cache(&mut self, error: &PackingError) -> bool {
        let Some(cache) = NarError::of(error).and_then(NarError::to_be_replaced) else { return false };
        let times = self.0.entry(cache.to_owned()).or_default();
        *times += 1;
        *times < ATTEMPTS
    }
}

fn is_in_store(path: &StorePath) -> bool {
    Path::new(path.as_str()).symlink_metadata().is_ok()
}

impl PathTree {
    /// Reads a tree to its end, for nothing but its names, however much memory it takes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(reader: Box<dyn TreeReader>) -> Result<Self, PackingError> {
        let tree = Self::read_up_to(usize::MAX, Taken::default(), reader)?;
        Ok(tree.expect("it is not too large"))
    }

    /// Reads a tree to its end, for nothing but its names. `None` if it takes more than `most` bytes of memory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read_up_to(
        most: usize,
        taken: Taken,
        reader: Box<dyn TreeReader>,
    ) -> Result<Option<Self>, PackingError> {
        let recorded = RecordedTree::default();
        let mut reader = Recorder::new(reader, most, taken, recorded.clone(), || {});
        while reader.step()?.is_some() {}
        let nothing =
            || PackingError::Read { path: reader.origin().into(), source: ErrorKind::UnexpectedEof.into() };
        match recorded.take() {
            None if !reader.is_too_large() => Err(nothing()),
            tree => Ok(tree),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorder::MAX_TOGETHER;
    use super::*;
    use crate::binary_cache::{BinaryCaches, TrustedKeys};
    use crate::packing::DiskTree;
    use crate::store::Store;
    use std::io;

    #[test]
    fn trees_that_are_too_large_are_not_kept() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for number in 0..100 {
            std::fs::write(directory.path().join(format!("{number:0100}")), b"").expect("written");
        }
        let taken = Taken::default();
        let read = |most| {
            let reader = Box::new(DiskTree::new(directory.path().into()));
            PathTree::read_up_to(most, taken.clone(), reader).expect("it is there")
        };
        // A file takes 100 bytes for its name, and as much again for the rest.
        assert!(read(15_000).is_none() && read(0).is_none());
        let tree = read(30_000).expect("it is small enough");
        assert_eq!(Some(&tree), read(usize::MAX).as_ref());
        // Others take what there is.
        taken.take(MAX_TOGETHER - 20_000);
        assert!(read(30_000).is_none());
        assert_eq!(Some(tree), read(usize::MAX));
    }

    #[test]
    fn each_cache_has_its_own_attempts() {
        let error = |cache: &str, has_other| {
            let path = format!("/nix/store/{}-x", "0".repeat(32)).parse().expect("a store path");
            let source = NarError::Wrong { path, cache: cache.into(), reason: "it lies".into(), has_other };
            PackingError::Read { path: "x".into(), source: io::Error::from(source) }
        };
        let mut spoilt = Spoilt::default();
        for _ in 1..ATTEMPTS {
            assert!(["a", "b", "c"].iter().all(|cache| spoilt.worth_another_cache(&error(cache, true))));
        }
        assert!(!spoilt.worth_another_cache(&error("a", true)));
        assert!(!spoilt.worth_another_cache(&error("d", false)));
        assert!(spoilt.worth_another_cache(&error("d", true)));
    }

    /// The Nix store may have another content by now than the hash says.
    #[tokio::test]
    async fn trees_of_the_nix_store_are_not_recorded() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open("memory://", &directory.path().join("staging")).expect("a store");
        let caches = BinaryCaches::new(&[], TrustedKeys::default(), None).expect("no client is needed");
        let paths = StorePaths::new(store.clone(), caches);
        let entries = std::fs::read_dir("/nix/store").expect("tests need Nix").flatten();
        let path = entries.filter_map(|entry| entry.path().to_str()?.parse::<StorePath>().ok()).next();
        let (path, nar_hash) = (path.expect("a store path"), NarHash::of(b"else"));
        let info = PathInfo { path, nar_hash, nar_size: 1, references: vec![] };
        let trees = paths.trees(std::slice::from_ref(&info)).await.expect("it is there");
        assert!(trees.contains_key(&info.path));
        paths.written().await;
        let key = tree_key(&info.path, &nar_hash);
        let record = store.record::<PathTree>(RecordKind::Tree, &key).await.expect("the store works");
        assert_eq!(record, None);
    }
}
