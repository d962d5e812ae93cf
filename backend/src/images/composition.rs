//! Publishing what an edge needs to compose images by itself, after each build.
//!
//! The backend does not know who reads it. It writes nothing for strategies whose layers depend on the image, and
//! nothing about names that people made up.

use super::{BuildError, Builder};
use crate::{
    error_chain::chain,
    packages::Known,
    store::{LOOKUPS, RecordKind},
};
use bytes::Bytes;
use firn_shared::{
    Closure,
    cache_key::CacheKey,
    composition::{
        KnownPackage, MAX_RECORD_BYTES, PackageSetRecord, RecipeRecord, package_key, package_set_key,
    },
    image::layer::{LayerPlan, LayerRecord},
    layering::{Sharing, Strategy},
    link::protocol::ImageSetId,
    naming::{
        image_name::ImageName,
        package::{PackageRecord, ProblemKind},
        package_name::PackageName,
        package_source::Revision,
    },
    oci::platform::Platform,
};
use futures::{StreamExt, TryStreamExt, stream};
use moka::sync::Cache;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// For how long what was written is believed to be there. It is written again after that, so that its age says when
/// it was needed last.
const BELIEVED: Duration = Duration::from_secs(24 * 3600);
/// How many packages are described at once: a client waits for it. A record can take megabytes.
const AT_ONCE: usize = 4;
/// How many records are remembered.
const MAX_REMEMBERED: u64 = 100_000;

/// What was written not long ago: for each key the steps of which all layers are named, a bit each.
pub(super) type Published = Cache<CacheKey, u16>;

/// The locks of records, by key. A build holds one while it reads a record, adds to it and writes it; otherwise one of two
/// builds would lose what the other adds.
pub(super) type Writing = Cache<CacheKey, Arc<tokio::sync::Mutex<()>>>;

/// The steps of a record that has no layers.
const EVERY_STEP: u16 = u16::MAX;

pub(super) fn none_published() -> Published {
    Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(BELIEVED).build()
}

pub(super) fn none_writing() -> Writing {
    Cache::new(MAX_REMEMBERED)
}

/// A package's record, and the layers that it cannot name yet.
struct Described {
    record: KnownPackage,
    /// The steps that it was looked at for.
    steps: u16,
    /// Their layers that have not been packed.
    missing: Vec<LayerPlan>,
}

impl Builder {
    /// Writes down what composing needs to know of the packages of an image, given the layers that it has, and the step
    /// that those are of.
    ///
    /// An image can lack layers that other images of its packages need: those that others of its layers cover. They are
    /// packed afterwards, for which nobody waits.
    pub(super) async fn publish(
        self: &Arc<Self>,
        name: &ImageName,
        revision: &Revision,
        known: Known,
        packed: HashMap<CacheKey, LayerRecord>,
        step: Option<usize>,
    ) {
        // The image is there, and the client gets it. Without the records an edge cannot compose other images.
        let warn = |error: &BuildError| {
            tracing::warn!(image.name = %name, error = %chain(error), "not published for edges");
        };
        let missing = match self.try_publish(name, revision, &known, &packed, step).await {
            Ok(missing) => missing,
            Err(error) => return warn(&error),
        };
        // With a budget, collection would take them again before an image has them.
        if missing.is_empty() || self.limits.bounded {
            return;
        }
        let (this, image, revision) = (Arc::clone(self), name.clone(), revision.clone());
        let publish_again = async move {
            if let Err(error) = this.try_publish(&image, &revision, &known, &packed, step).await {
                tracing::warn!(image.name = %image, error = %chain(&error), "not published for edges");
            }
        };
        let builder = Arc::clone(self);
        let plans = missing.into_values().collect();
        self.layers.complete(name, plans, move || builder.is_closed(), publish_again);
    }

    /// Returns when the layers are packed that images of the same packages need and those built so far do not.
    pub async fn completed(&self) {
        self.layers.completed().await;
    }

    /// The record that was published under a key. Reading it makes it younger, so that it stays.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn published(&self, key: &CacheKey) -> Result<Option<Bytes>, BuildError> {
        let Some(bytes) = self.store.composition(key).await? else { return Ok(None) };
        if !self.published.contains_key(key) {
            // The answer does not depend on whether there is room to write it again.
            match self.store.put_composition(key, bytes.to_vec()).await {
                Ok(()) => self.published.insert(*key, 0),
                Err(error) => tracing::warn!(%key, error = %chain(&error), "a record for edges may go early"),
            }
        }
        Ok(Some(bytes))
    }

    /// Has the next build write again what is published of these packages.
    pub(super) fn forget_published(
        &self,
        revision: &Revision,
        platform: Platform,
        packages: impl IntoIterator<Item = PackageName>,
    ) {
        let token = self.set_token(revision);
        for name in packages {
            self.published.invalidate(&package_key(&token, platform, &name));
        }
    }

    fn set_token(&self, revision: &Revision) -> ImageSetId {
        self.token(revision).to_string().parse().expect("keys are visible ASCII")
    }

    /// Returns the plans of layers that the records should name and that have not been packed.
    async fn try_publish(
        &self,
        name: &ImageName,
        revision: &Revision,
        known: &Known,
        packed: &HashMap<CacheKey, LayerRecord>,
        step: Option<usize>,
    ) -> Result<BTreeMap<CacheKey, LayerPlan>, BuildError> {
        let recipe = &self.recipe;
        let Some(sharing) = recipe.strategy.sharing() else { return Ok(BTreeMap::new()) };
        let token = &self.set_token(revision);
        let platform = self.platform_of(name);
        let packages = name.candidates().into_iter().map(|package| async move {
            let key = package_key(token, platform, &package);
            let wanted = step.map_or(0, |step| 1 << step);
            if self.published.get(&key).is_some_and(|steps| steps != 0 && steps & wanted == wanted) {
                return Ok(Vec::new());
            }
            let described = match known.package(&package) {
                Ok(record) => self.described(&record, sharing, packed, step).await?,
                // It may be built another time.
                Err(problem) if problem.kind == ProblemKind::BuildError => return Ok(Vec::new()),
                Err(_) => Described { record: KnownPackage::Absent, steps: EVERY_STEP, missing: Vec::new() },
            };
            let writing = self.writing.get_with(key, Arc::default);
            let _turn = writing.lock().await;
            let record = self.with_former_layers(described.record, &key).await?;
            let bytes = record.encode(&key)?;
            if bytes.len() > MAX_RECORD_BYTES {
                return Ok(Vec::new());
            }
            self.store.put_composition(&key, bytes).await?;
            if described.missing.is_empty() {
                // Others of before are in it too, unless another server has written at the same time.
                self.published.insert(key, described.steps);
            }
            Ok::<_, BuildError>(described.missing)
        });
        let packages: Vec<_> = packages.collect();
        let missing: Vec<_> = stream::iter(packages).buffer_unordered(AT_ONCE).try_collect().await?;
        let key = package_set_key(token);
        if !self.published.contains_key(&key) {
            let set = PackageSetRecord::new(
                revision.clone(),
                known.revision_date,
                RecipeRecord {
                    platform: recipe.platform,
                    layer_budget: recipe.layer_budget,
                    closure_bytes: self.limits.closure_bytes,
                    encoding: self.layers.encoder().encoding(),
                    strategy: recipe.strategy.version(),
                },
                sharing.profile(),
            );
            self.store.put_composition(&key, set.encode(&key)).await?;
            self.published.insert(key, EVERY_STEP);
        }
        // Packages have layers in common.
        Ok(missing.into_iter().flatten().map(|plan| (plan.key, plan)).collect())
    }

    /// A package with the layers that it brings into images: at the step that an image of it alone takes, and at this.
    async fn described(
        &self,
        record: &PackageRecord,
        sharing: &Sharing,
        packed: &HashMap<CacheKey, LayerRecord>,
        step: Option<usize>,
    ) -> Result<Described, BuildError> {
        let closure = Closure::new(&record.closure)?;
        let parts = [record.part(&closure, false)];
        let alone = sharing.layers(&closure, &parts, self.recipe.layer_budget);
        let mut steps = alone.step.map_or(0, |step| 1 << step);
        let own = alone.layers.len();
        let mut layers = alone.layers;
        if let Some(step) = step.filter(|step| steps & 1 << step == 0) {
            layers.extend(sharing.layers_at(&closure, &parts, step));
            steps |= 1 << step;
        }
        let encoding = self.layers.encoder().encoding();
        let plans = layers
            .into_iter()
            .map(|layer| LayerPlan::new(layer.members.into_iter().map(|i| &closure.paths()[i]), &encoding));
        let lookups = plans.map(|plan| async move {
            let layer = match packed.get(&plan.key) {
                Some(layer) => Some(layer.clone()),
                None => self.store.record(RecordKind::Layer, &plan.key).await?,
            };
            Ok::<_, BuildError>((plan, layer))
        });
        let lookups: Vec<_> = lookups.collect();
        let found: Vec<_> = stream::iter(lookups).buffered(LOOKUPS).try_collect().await?;
        let is_complete = found[..own].iter().all(|(_, layer)| layer.is_some());
        let (mut layers, mut missing) = (HashMap::new(), Vec::new());
        for (plan, layer) in found {
            match layer {
                Some(layer) => drop(layers.insert(plan.key, layer)),
                None => missing.push(plan),
            }
        }
        let record = KnownPackage::new(record.clone(), sharing.profile(), layers, is_complete);
        Ok(Described { record, steps, missing })
    }

    /// The same with the layers that the record before names and this one does not, as far as they are there: edges
    /// may still have that one, and compose images of these layers.
    async fn with_former_layers(
        &self,
        mut described: KnownPackage,
        key: &CacheKey,
    ) -> Result<KnownPackage, BuildError> {
        let before = self.store.composition(key).await?;
        let Some(before) = before.and_then(|bytes| KnownPackage::decode(key, &bytes).ok()) else {
            return Ok(described);
        };
        let former: Vec<_> = before.layers().filter(|(key, _)| !described.has_layer(key)).collect();
        let lookups: Vec<_> = former
            .into_iter()
            .map(|(key, layer)| async move {
                let found = self.store.record::<LayerRecord>(RecordKind::Layer, key).await?;
                Ok::<_, BuildError>((found.as_ref() == Some(layer)).then_some((*key, layer)))
            })
            .collect();
        let found: Vec<_> = stream::iter(lookups).buffer_unordered(LOOKUPS).try_collect().await?;
        for (key, layer) in found.into_iter().flatten() {
            described.add_layer(key, layer.clone());
        }
        Ok(described)
    }
}
