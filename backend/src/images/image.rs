//! Making an image: its packages, then the layers that are missing, then its config and manifests.

use super::{BuildError, Builder};
use crate::{
    error_chain::chain,
    layers::LayerError,
    packages::{Known, PackageError, Recalled},
    store::{ImageRecipe, ImageRecord, RecordKind},
    waiting::Progress,
};
use firn_shared::{
    Closure,
    cache_key::CacheKey,
    image::{
        self, Blueprint, Ingredients, SmallBlob,
        layer::{LayerPlan, LayerRecord},
        selection::select,
        settlement,
    },
    layering::{Layer, Layers, Part},
    naming::{image_name::ImageName, package::PackageRecord, package_source::Revision},
    nix::closure::ClosureError,
    oci::{document::Descriptor, media_type::ManifestFormat},
};
use futures::future::try_join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// How often a build that took longer than the grace period looks whether its layers are still there.
const ATTEMPTS: usize = 3;

impl Builder {
    /// Makes an image and stores it, given what is known of its packages.
    pub(super) async fn build(
        self: &Arc<Self>,
        name: &ImageName,
        revision: &Revision,
        key: &CacheKey,
        recalled: Recalled,
        progress: &Progress,
    ) -> Result<ImageRecord, BuildError> {
        let group = |closure: &Closure, parts: &[Part]| {
            self.recipe.strategy.layers(closure, parts, self.recipe.layer_budget)
        };
        let mut known = self.find(name, revision, recalled, progress).await?;
        if !known.is_described() {
            if let Err(error) = self.pack_undescribed(name, &known, progress, group).await? {
                tracing::info!(image.name = %name, error = %chain(&error), "realising what is gone");
                self.renew(name, revision, &mut known, progress).await?;
            }
            self.packages.describe(revision, self.platform_of(name), &mut known).await?;
        }
        let mut blueprint = self.blueprint(name, revision, &mut known, progress, group).await?;
        let (mut looks, mut realised) = (0, 0);
        let layers = loop {
            let looked = Instant::now();
            let packed = self.layers.pack_missing(&blueprint.layers, known.held(), progress).await;
            let layers = match packed {
                // The packages are on record, but before this layer was ever packed their store paths were deleted or built
                // again.
                Err(error) if error.is_vanished() && realised < ATTEMPTS => {
                    tracing::info!(image.name = %name, error = %chain(&error), "realising again");
                    realised += 1;
                    self.renew(name, revision, &mut known, progress).await?;
                    blueprint = self.blueprint(name, revision, &mut known, progress, group).await?;
                    continue;
                }
                layers => layers?,
            };
            // The layers are packed: Nix may delete what was realised.
            known.let_go();
            looks += 1;
            // Garbage collection leaves a layer's blob alone for the grace period after its record is gone, so a
            // layer that was found counts for that long: half for the others to be packed, half for the image to
            // be stored. Another look costs little, because nothing is packed twice.
            if looked.elapsed() < self.limits.grace / 2 || looks == ATTEMPTS {
                break layers;
            }
        };
        let packed = blueprint.layers.iter().map(|plan| plan.key).zip(layers.iter().cloned()).collect();
        let step = blueprint.step;
        let record = self.store_image(blueprint, &layers, name, revision, key).await?;
        // Before the answer: an edge asks for it as soon as it has that.
        self.publish(name, revision, known, packed, step).await;
        Ok(record)
    }

    /// What is known of an image's packages; with binary caches, not what is in their files if that was never recorded.
    pub(super) async fn find(
        &self,
        name: &ImageName,
        revision: &Revision,
        recalled: Recalled,
        progress: &Progress,
    ) -> Result<Known, BuildError> {
        let platform = self.platform_of(name);
        let requested: BTreeSet<_> = name.packages().cloned().collect();
        Ok(self.packages.find(revision, platform, recalled, &requested, progress).await?)
    }

    /// The layers of an image's store paths, which depend on closures alone.
    ///
    /// # Errors
    /// When the packages' closures contradict each other, or the image would be too large.
    pub(super) fn plan(
        &self,
        name: &ImageName,
        known: &Known,
        group: impl FnOnce(&Closure, &[Part]) -> Layers,
    ) -> Result<Vec<LayerPlan>, BuildError> {
        let is_same = |one: &Arc<PackageRecord>, other: &Arc<PackageRecord>| one.is_same(other);
        let selected = select(name, is_same, |package| known.package(package))?;
        let records: Vec<&PackageRecord> = selected.iter().map(|selected| &*selected.package).collect();
        let closure = settlement::closure(&records)?;
        self.check_size(closure.nar_size())?;
        let parts: Vec<Part> =
            selected.iter().map(|selected| selected.package.part(&closure, !selected.requested)).collect();
        let encoding = self.layers.encoder().encoding();
        let members =
            |layer: Layer| layer.members.into_iter().map(|i| &closure.paths()[i]).collect::<Vec<_>>();
        let layers = group(&closure, &parts).layers.into_iter();
        Ok(layers.map(|layer| LayerPlan::new(members(layer), &encoding)).collect())
    }

    /// Packs the layers of an image before it is known what is in the files of its packages: that is noted while they are
    /// packed, so that nothing is downloaded twice.
    ///
    /// # Errors
    /// The inner one when a store path is gone, so that the packages have to be realised again.
    async fn pack_undescribed(
        &self,
        name: &ImageName,
        known: &Known,
        progress: &Progress,
        group: impl FnOnce(&Closure, &[Part]) -> Layers,
    ) -> Result<Result<(), LayerError>, BuildError> {
        let plans = match self.plan(name, known, group) {
            // Records are brought in line once all packages are described.
            Err(BuildError::Closure(ClosureError::Contradiction(_))) => return Ok(Ok(())),
            plans => plans?,
        };
        match self.layers.pack_missing(&plans, known.held(), progress).await {
            Err(error) if error.is_vanished() => Ok(Err(error)),
            packed => Ok(Ok(packed.map(drop)?)),
        }
    }

    fn check_size(&self, size: u64) -> Result<(), BuildError> {
        let limit = self.limits.closure_bytes;
        if size > limit { Err(BuildError::TooLarge { size, limit }) } else { Ok(()) }
    }

    /// Everything about an image of known packages but the bytes of its layers. If the packages' records contradict each
    /// other about a store path, they are made to agree first.
    async fn blueprint(
        &self,
        name: &ImageName,
        revision: &Revision,
        known: &mut Known,
        progress: &Progress,
        group: impl FnOnce(&Closure, &[Part]) -> Layers,
    ) -> Result<Blueprint, BuildError> {
        let platform = self.platform_of(name);
        let settled = self.packages.settle(name, revision, platform, known).await;
        self.forget_published(revision, platform, known.take_renewed());
        if let Err(error) = settled? {
            tracing::info!(image.name = %name, error = %chain(&error), "realising what records disagree about");
            self.renew(name, revision, known, progress).await?;
        }
        let is_same = |one: &Arc<PackageRecord>, other: &Arc<PackageRecord>| one.is_same(other);
        let selected = select(name, is_same, |package| known.package(package))?;
        let packages: Vec<_> = selected.iter().map(|selected| selected.as_deref()).collect();
        let revision_date = known.revision_date;
        let blueprint = Blueprint::new(
            Ingredients { name, platform, revision, revision_date, packages: &packages },
            group,
            &self.layers.encoder().encoding(),
        )?;
        self.check_size(blueprint.nar_size)?;
        for conflict in &blueprint.conflicts {
            tracing::info!(image.name = %name, path = conflict.path, dropped = %conflict.dropped, "conflict");
        }
        Ok(blueprint)
    }

    /// Realises an image's packages again, and records anew what they are.
    async fn renew(
        &self,
        name: &ImageName,
        revision: &Revision,
        known: &mut Known,
        progress: &Progress,
    ) -> Result<(), PackageError> {
        // A build of known packages was to be over soon. It takes as long as any other now.
        self.queue.count(progress.audience());
        let platform = self.platform_of(name);
        let renewed = self.packages.renew(name, revision, platform, known, progress).await;
        // Also after an error: some records may have been replaced.
        self.forget_published(revision, platform, known.take_renewed());
        renewed
    }

    /// Composes an image of its layers, and stores its blobs and its record.
    async fn store_image(
        &self,
        blueprint: Blueprint,
        layers: &[LayerRecord],
        name: &ImageName,
        revision: &Revision,
        key: &CacheKey,
    ) -> Result<ImageRecord, BuildError> {
        let mut conflicts: Vec<_> =
            blueprint.conflicts.iter().map(|conflict| conflict.path.clone()).collect();
        // Several packages can have lost the same.
        conflicts.dedup();
        let image = blueprint.assemble(layers);
        let document = |format: ManifestFormat, blob: &SmallBlob| {
            Descriptor::new(format.manifest(), blob.digest, blob.bytes.len() as u64)
        };
        let documents =
            [(ManifestFormat::Oci, Some(&image.oci)), (ManifestFormat::Docker, image.docker.as_ref())]
                .into_iter()
                .filter_map(|(format, blob)| Some(document(format, blob?)))
                .collect();
        let platform = Some(self.platform_of(name));
        let mut record =
            ImageRecord::new(name.to_string(), revision.clone(), platform, self.image_recipe(), documents)
                .expect("its documents are manifests, one of them OCI's");
        record.conflicts = conflicts;
        // The record comes last, so that all blobs that it refers to are there.
        let blobs = [Some(image.top), Some(image.config), Some(image.oci), image.docker];
        let stored = blobs.into_iter().flatten();
        let stored = stored.map(async |blob| self.store.put_blob(&blob.digest, blob.bytes).await);
        try_join_all(stored).await?;
        self.store.put_record(RecordKind::Image, key, &record).await?;
        Ok(record)
    }

    /// How this instance makes images now.
    fn image_recipe(&self) -> ImageRecipe {
        ImageRecipe {
            format: image::FORMAT,
            strategy: self.recipe.strategy.version(),
            layer_budget: self.recipe.layer_budget,
            encoding: self.layers.encoder().encoding(),
            allow_unfree: self.recipe.allow_unfree,
        }
    }
}
