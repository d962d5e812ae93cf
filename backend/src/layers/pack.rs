//! Finding layers that were packed before, and packing the others.

use super::{LayerError, LayerPacker};
use crate::{
    binary_cache::{CachedPath, NarError},
    error_chain::chain,
    nix::{GcRoot, ProcessError, RequisitesError},
    packing::FileTree,
    store::{LOOKUPS, RecordKind},
    store_paths::{RecordedTree, Spoilt, StorePathError},
    waiting::{Flight, Phase, Progress},
};
use firn_shared::{
    StorePath,
    image::layer::{LayerPlan, LayerRecord},
    oci::digest::NarHash,
};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How many layers of an image are packed at once. The packer's threads do the work; this many keep them busy
/// while one waits for files. Storing them has no such bound: many syncs at once cost a disk little more than
/// one, and requests to a bucket wait for each other no more than that.
const AT_ONCE: usize = 4;

/// The store paths that binary caches have.
type Sources = HashMap<StorePath, Arc<CachedPath>>;

impl LayerPacker {
    /// The packed layers for these plans, in their order. `held` are store paths that stay in the Nix store meanwhile, with
    /// the contents that they have there. Others are downloaded, if a binary cache has them.
    ///
    /// # Errors
    /// [`LayerError::is_vanished`] when a store path that has to be packed is gone or has another content than the
    /// plan says; nothing has been packed of it then.
    pub(crate) async fn pack_missing(
        self: &Arc<Self>,
        plans: &[LayerPlan],
        held: &HashMap<StorePath, NarHash>,
        progress: &Progress,
    ) -> Result<Vec<LayerRecord>, LayerError> {
        let lookups: Vec<_> = plans.iter().map(|plan| self.packed(plan)).collect();
        let mut records: Vec<Option<LayerRecord>> =
            stream::iter(lookups).buffered(LOOKUPS).try_collect().await?;
        let mut missing: Vec<usize> = (0..plans.len()).filter(|i| records[*i].is_none()).collect();
        if missing.is_empty() {
            return Ok(records.into_iter().flatten().collect());
        }
        let needed = missing.iter().flat_map(|i| plans[*i].paths.iter().zip(&plans[*i].nar_hashes));
        let needed: Vec<(&StorePath, &NarHash)> = needed.collect();
        let is_held = |(path, hash): &(&StorePath, &NarHash)| held.get(*path) == Some(*hash);
        let wanted = needed.iter().copied().filter(|member| !is_held(member));
        let (sources, failure) = match self.paths.sources(wanted).await {
            Ok(sources) => (sources, None),
            Err(error) => (HashMap::new(), Some(error)),
        };
        let of_store: Vec<_> =
            needed.iter().copied().filter(|(path, _)| !sources.contains_key(*path)).collect();
        if let Some((gone, _)) =
            of_store.iter().find(|(path, _)| Path::new(path.as_str()).symlink_metadata().is_err())
        {
            return Err(failure.map_or_else(|| LayerError::Vanished((*gone).clone()), LayerError::StorePaths));
        }
        let _root = self.hold(&of_store, held).await?;
        progress.enter(Phase::Packing { done: 0, total: missing.len() });
        if !sources.is_empty() {
            let bytes =
                sources.values().fold(0, |sum: u64, source| sum.saturating_add(source.download_size()));
            progress.fetch(sources.len(), bytes);
        }
        let sources = Arc::new(sources);

        // Largest first, so that the last one to finish is a small one.
        missing.sort_by_key(|i| std::cmp::Reverse(plans[*i].nar_size));
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let all_at_once = missing.len().max(1);
        let packed: Vec<(usize, LayerRecord)> = stream::iter(missing)
            .map(|i| {
                let flight = self.pack_once(plans[i].clone(), &sources, progress, &turns);
                async move {
                    let record = flight.await.map_err(LayerError::Shared)?;
                    progress.layer_packed();
                    Ok::<_, LayerError>((i, record))
                }
            })
            .buffer_unordered(all_at_once)
            .try_collect()
            .await?;
        for (i, record) in packed {
            records[i] = Some(record);
        }
        Ok(records.into_iter().map(|record| record.expect("what was missing is packed")).collect())
    }

    /// Checks that members of layers have the contents in the Nix store that the plans say, and keeps them until the
    /// returned root is dropped. The key of a layer stands for its members' contents: a layer of other contents would end up in
    /// every image with that key.
    ///
    /// It trusts the hashes that Nix has on record. To hash the files as well would take a tenth of the time of packing.
    async fn hold(
        &self,
        members: &[(&StorePath, &NarHash)],
        held: &HashMap<StorePath, NarHash>,
    ) -> Result<Option<GcRoot>, LayerError> {
        let paths: Vec<StorePath> = members.iter().map(|(path, _)| (*path).clone()).collect();
        let Some(first) = paths.first() else { return Ok(None) };
        let invalid = |error: ProcessError| match error {
            // Files may be left of a path that Nix has forgotten.
            ProcessError::Failed { .. } => LayerError::Vanished(first.clone()),
            error => LayerError::Requisites(error.into()),
        };
        let others: Vec<_> = paths.iter().filter(|path| !held.contains_key(path)).cloned().collect();
        let root = match others.is_empty() {
            true => None,
            false => Some(self.nix.hold(&others).await.map_err(invalid)?),
        };
        let infos = self.nix.path_infos(&paths).await.map_err(|error| match error {
            RequisitesError::Process(error) => invalid(error),
            error => LayerError::Requisites(error),
        })?;
        let hashes: HashMap<_, _> = infos.into_iter().map(|info| (info.path, info.nar_hash)).collect();
        match members.iter().find(|(path, hash)| hashes.get(*path) != Some(*hash)) {
            Some((path, _)) => Err(LayerError::OtherContent((*path).clone())),
            None => Ok(root),
        }
    }

    /// The layer, if it has been packed and its blob is there.
    async fn packed(&self, plan: &LayerPlan) -> Result<Option<LayerRecord>, LayerError> {
        let Some(record) = self.store.record::<LayerRecord>(RecordKind::Layer, &plan.key).await? else {
            return Ok(None);
        };
        match self.store.blob(&record.digest).await? {
            Some(blob) if blob.size == record.size => return Ok(Some(record)),
            Some(blob) => self.store.quarantine(&blob).await?,
            None => tracing::warn!(layer.digest = %record.digest, "a layer is gone and is packed again"),
        }
        Ok(None)
    }

    /// Packs a layer when it is its turn, or waits for the build that is packing it.
    fn pack_once(
        self: &Arc<Self>,
        plan: LayerPlan,
        sources: &Arc<Sources>,
        progress: &Progress,
        turns: &Arc<Semaphore>,
    ) -> Flight<Result<LayerRecord, Arc<LayerError>>> {
        let (packer, turns) = (Arc::clone(self), Arc::clone(turns));
        let (sources, progress) = (Arc::clone(sources), progress.clone());
        self.flights.join(plan.key, move || async move {
            // Another build may have packed it since it was looked up.
            match packer.packed(&plan).await.map_err(Arc::new)? {
                Some(record) => Ok(record),
                None => packer.pack(&plan, &sources, &progress, &turns).await.map_err(Arc::new),
            }
        })
    }

    async fn pack(
        self: &Arc<Self>,
        plan: &LayerPlan,
        sources: &Sources,
        progress: &Progress,
        turns: &Semaphore,
    ) -> Result<LayerRecord, LayerError> {
        let turn = turns.acquire().await.expect("the semaphore is never closed");
        let mut spoilt = Spoilt::default();
        let (staged, packed, trees) = loop {
            let mut staged = self.store.stage()?;
            let packer = Arc::clone(&self.packer);
            let (files, trees) = self.files(plan, sources, progress);
            let (staged, packed) = tokio::task::spawn_blocking(move || {
                let packed = packer.pack(files, &mut staged);
                (staged, packed)
            })
            .await
            .expect("packing does not panic");
            match packed {
                Ok(packed) => break (staged, packed, trees),
                // Nothing of the attempt is kept. The next one reads from the next cache.
                Err(error) if spoilt.worth_another_cache(&error) => {
                    tracing::warn!(error = %chain(&error), "reading from another binary cache");
                }
                Err(error) => {
                    if let Some(path) = NarError::of(&error).and_then(NarError::gone) {
                        self.paths.forget(path).await.map_err(StorePathError::Store)?;
                    }
                    return Err(error.into());
                }
            }
        };
        drop(turn);
        // A store path without a GC root may have been half deleted before or while it was read. What was downloaded is whole,
        // and of some paths a cache may have told the wrong size.
        let is_of_store = plan.paths.iter().any(|path| !sources.contains_key(path));
        if is_of_store && packed.nar_size < plan.nar_size {
            return Err(LayerError::Incomplete(plan.paths[0].clone()));
        }
        for (tree, (path, hash)) in trees.into_iter().zip(plan.paths.iter().zip(&plan.nar_hashes)) {
            if let Some(tree) = tree.take() {
                self.paths.record_tree(path, hash, tree);
            }
        }
        self.store.commit(staged, &packed.digest).await?;
        let record = LayerRecord {
            digest: packed.digest,
            diff_id: packed.diff_id,
            size: packed.size,
            uncompressed: packed.uncompressed,
            compression: self.packer.encoder().compression(),
        };
        self.store.put_record(RecordKind::Layer, &plan.key, &record).await?;
        tracing::debug!(layer.digest = %record.digest, size_bytes = record.size, paths = plan.paths.len(), "layer packed");
        Ok(record)
    }

    /// The files of a layer, and where their trees appear when they have been packed. Without caches nobody needs the trees.
    fn files(
        &self,
        plan: &LayerPlan,
        sources: &Sources,
        progress: &Progress,
    ) -> (Vec<FileTree>, Vec<RecordedTree>) {
        let fetched = progress.fetched_bytes();
        let file_tree = |path: &StorePath| {
            let recorded = RecordedTree::default();
            if !self.paths.has_caches() {
                return (FileTree::store_path(path), recorded);
            }
            let source = sources.get(path);
            let reader = self.paths.reader(path, source.map(Arc::as_ref), &fetched);
            let (progress, is_fetched) = (progress.clone(), source.is_some());
            let at_end = move || {
                if is_fetched {
                    progress.path_fetched();
                }
            };
            (FileTree::of_store_path(path, self.paths.recorder(reader, recorded.clone(), at_end)), recorded)
        };
        plan.paths.iter().map(file_tree).unzip()
    }
}
