//! Publishing what an edge needs to compose images by itself, after each build.
//!
//! The backend does not know who reads it. It writes nothing for strategies whose layers depend on the image, and
//! nothing about names that people made up.

use super::{BuildError, Builder, LOOKUPS, chain, packages::Known};
use crate::store::RecordKind;
use bytes::Bytes;
use firn_shared::{
    Closure,
    cache_key::CacheKey,
    composition::{
        KnownPackage, MAX_RECORD_BYTES, PackageSetRecord, RecipeRecord, package_key, package_set_key,
    },
    image_name::ImageName,
    layer::{LayerPlan, LayerRecord},
    layering::RevisionProfile,
    package::{PackageRecord, ProblemKind},
    package_name::PackageName,
    package_source::Revision,
    platform::Platform,
    protocol::PackageSetToken,
};
use futures::{StreamExt, TryStreamExt, stream};
use moka::sync::Cache;
use std::collections::HashMap;
use std::time::Duration;

/// For how long what was written is believed to be there. It is written again after that, so that its age says when
/// it was needed last.
const BELIEVED: Duration = Duration::from_secs(24 * 3600);
/// How many packages are described at once: a client waits for it. A record can take megabytes.
const AT_ONCE: usize = 4;
/// Of how many records that is remembered.
const MAX_REMEMBERED: u64 = 100_000;

pub(super) fn none_published() -> Cache<CacheKey, ()> {
    Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(BELIEVED).build()
}

impl Builder {
    /// Writes down what composing needs to know of an image's packages, given the layers that it has.
    pub(super) async fn publish(
        &self,
        name: &ImageName,
        revision: &Revision,
        known: &Known,
        packed: &HashMap<CacheKey, LayerRecord>,
    ) {
        // The image is there; that an edge cannot compose others is no reason not to answer.
        if let Err(error) = self.try_publish(name, revision, known, packed).await {
            tracing::warn!(image.name = %name, error = %chain(&error), "not published for edges");
        }
    }

    /// What was published under a key. That somebody asks makes it younger, so that it stays.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn published(&self, key: &CacheKey) -> Result<Option<Bytes>, BuildError> {
        let Some(bytes) = self.store.composition(key).await? else { return Ok(None) };
        if !self.published.contains_key(key) {
            // That there is no room to write it again is no reason not to tell what is there.
            match self.store.put_composition(key, bytes.to_vec()).await {
                Ok(()) => self.published.insert(*key, ()),
                Err(error) => tracing::warn!(%key, error = %chain(&error), "a record for edges may go early"),
            }
        }
        Ok(Some(bytes))
    }

    /// Has what is published of a package written again.
    pub(super) fn forget_published(&self, revision: &Revision, platform: Platform, name: &PackageName) {
        self.published.invalidate(&package_key(&self.set_token(revision), platform, name));
    }

    fn set_token(&self, revision: &Revision) -> PackageSetToken {
        self.token(revision).to_string().parse().expect("keys are visible ASCII")
    }

    async fn try_publish(
        &self,
        name: &ImageName,
        revision: &Revision,
        known: &Known,
        packed: &HashMap<CacheKey, LayerRecord>,
    ) -> Result<(), BuildError> {
        let recipe = &self.recipe;
        let Some(profile) = recipe.strategy.profile() else { return Ok(()) };
        let token = &self.set_token(revision);
        let platform = self.platform_of(name);
        let packages = name.candidates().into_iter().map(|package| async move {
            let key = package_key(token, platform, &package);
            if self.published.contains_key(&key) {
                return Ok(());
            }
            let described = match known.package(&package) {
                Ok(record) => {
                    let described = self.described(&record, profile, packed).await?;
                    self.with_former_layers(described, &key).await?
                }
                // It may be built another time.
                Err(problem) if problem.kind == ProblemKind::BuildError => return Ok(()),
                Err(_) => KnownPackage::Absent,
            };
            let bytes = described.encode(&key)?;
            if bytes.len() <= MAX_RECORD_BYTES {
                self.store.put_composition(&key, bytes).await?;
                if described.is_complete() {
                    self.published.insert(key, ());
                }
            }
            Ok::<_, BuildError>(())
        });
        let packages: Vec<_> = packages.collect();
        stream::iter(packages).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let key = package_set_key(token);
        if !self.published.contains_key(&key) {
            let set = PackageSetRecord::new(
                revision.clone(),
                known.revision_date,
                RecipeRecord {
                    platform: recipe.platform,
                    layer_budget: recipe.layer_budget,
                    closure_bytes: self.limits.closure_bytes,
                    encoding: self.packer.encoder().encoding(),
                    strategy: recipe.strategy.version(),
                },
                profile,
            );
            self.store.put_composition(&key, set.encode(&key)).await?;
            self.published.insert(key, ());
        }
        Ok(())
    }

    /// A package with the layers that an image of it alone has, as far as there are such.
    async fn described(
        &self,
        record: &PackageRecord,
        profile: &RevisionProfile,
        packed: &HashMap<CacheKey, LayerRecord>,
    ) -> Result<KnownPackage, BuildError> {
        let closure = Closure::new(&record.closure)?;
        let groups = self.recipe.strategy.group(&closure, self.recipe.layer_budget);
        let encoding = self.packer.encoder().encoding();
        let keys = groups
            .into_iter()
            .map(|members| LayerPlan::new(members.into_iter().map(|i| &closure.paths()[i]), &encoding).key);
        let lookups = keys.map(|key| async move {
            let layer = match packed.get(&key) {
                Some(layer) => Some(layer.clone()),
                None => self.store.record(RecordKind::Layer, &key).await?,
            };
            Ok::<_, BuildError>((key, layer))
        });
        let lookups: Vec<_> = lookups.collect();
        let found: Vec<_> = stream::iter(lookups).buffer_unordered(LOOKUPS).try_collect().await?;
        let complete = found.iter().all(|(_, layer)| layer.is_some());
        let layers = found.into_iter().filter_map(|(key, layer)| Some((key, layer?))).collect();
        Ok(KnownPackage::new(record.clone(), profile, layers, complete))
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
        for (key, layer) in before.layers() {
            if !described.has_layer(key)
                && self.store.record::<LayerRecord>(RecordKind::Layer, key).await?.as_ref() == Some(layer)
            {
                described.add_layer(*key, layer.clone());
            }
        }
        Ok(described)
    }
}
