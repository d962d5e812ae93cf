//! What is in an image: the documents of [`firn_shared::contents`] about it, made when somebody asks for them.
//!
//! The image is composed again from what is on record of its packages, without Nix, and nothing is packed. Only if that
//! gives the same manifest do the records say what is in the image: a store path may have been built again with other
//! bytes since. Otherwise there are no documents.
//!
//! Documents are stored as blobs, so that clients can fetch them wherever they fetch layers, but no record refers to
//! them. So garbage collection deletes them when nobody has asked for the referrers of their image for the grace period,
//! and the next client that asks has them made again, with the same bytes.

use super::{BuildError, Builder};
use crate::{
    store::{LOOKUPS, RecordKind},
    waiting::{Audience, Client},
};
use firn_shared::{
    Closure, Digest,
    contents::{Artifact, ClaimedOrigin, Contents, DocumentKind, Method},
    image::{Blueprint, Image, Ingredients, SmallBlob, layer::LayerRecord, selection::select},
    layering::Part,
    naming::{image_name::ImageName, package::PackageRecord, package_source::Revision},
    oci::{
        discovery::referrers_index,
        document::{Descriptor, Document},
        media_type::ManifestFormat,
        reference::Tag,
    },
};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use moka::sync::Cache;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// For how long at most documents are believed to be stored. Another process may collect garbage.
const BELIEVED: Duration = Duration::from_secs(600);
/// Of how many manifests the referrers are remembered.
const MAX_REMEMBERED: u64 = 10_000;

/// The referrers of manifests whose documents were stored not long ago, with the store's losses before that.
pub(super) type Referrers = Cache<Digest, (u64, Arc<[Descriptor]>)>;

/// None yet. `grace` is for how long garbage collection leaves alone what was written a moment ago.
pub(super) fn none_referring(grace: Duration) -> Referrers {
    Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(BELIEVED.min(grace / 4)).build()
}

/// For which images documents are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subjects {
    /// Those that this store has.
    Stored,
    /// Also those that an edge may have composed of the package set that `latest` names.
    Composed,
}

impl Builder {
    /// What refers to a manifest: descriptors of artifacts, whose blobs are stored. Empty if the manifest is of no image
    /// that is known, or if it is no longer known what is in the image.
    ///
    /// # Errors
    /// If the store fails, or `latest` cannot be looked up.
    pub async fn referrers(
        &self,
        name: &ImageName,
        manifest: &Digest,
        subjects: Subjects,
        client: Client,
    ) -> Result<Arc<[Descriptor]>, BuildError> {
        let losses = self.store.losses();
        if let Some((before, referrers)) = self.referring.get(manifest)
            && before == losses
        {
            return Ok(referrers);
        }
        let origin = match (self.claimed_origin(manifest).await?, subjects) {
            (Some(origin), _) => origin,
            (None, Subjects::Stored) => return Ok(Arc::default()),
            (None, Subjects::Composed) => {
                let revision = self.revision(&Tag::default(), client).await?;
                ClaimedOrigin { name: name.clone(), revision }
            }
        };
        let _turn = self.composing.take(&Audience::of(client)).await?;
        let artifacts =
            self.with_contents(&origin, manifest, |contents, manifest| contents.artifacts(manifest)).await?;
        let Some(artifacts) = artifacts else { return Ok(Arc::default()) };
        let (descriptors, blobs): (Vec<_>, Vec<_>) =
            artifacts.into_iter().map(|Artifact { descriptor, blobs }| (descriptor, blobs)).unzip();
        // A client that got the list by a tag may ask for it by its digest next.
        let index = referrers_index(&descriptors, None);
        let index = SmallBlob { digest: Digest::of(&index), bytes: index };
        // All artifacts have the same config.
        let blobs: BTreeMap<_, _> =
            blobs.into_iter().flatten().chain([index]).map(|blob| (blob.digest, blob.bytes)).collect();
        let put = async |(digest, bytes): (Digest, Vec<u8>)| self.store.put_blob(&digest, bytes).await;
        try_join_all(blobs.into_iter().map(put)).await?;
        let referrers: Arc<[Descriptor]> = descriptors.into();
        self.referring.insert(*manifest, (losses, Arc::clone(&referrers)));
        Ok(referrers)
    }

    /// A document about a manifest of an image. None if it is not known, or not any longer, what is in the image.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn document(
        &self,
        name: &ImageName,
        revision: &Revision,
        manifest: &Digest,
        kind: DocumentKind,
    ) -> Result<Option<Vec<u8>>, BuildError> {
        let origin = ClaimedOrigin { name: name.clone(), revision: revision.clone() };
        self.with_contents(&origin, manifest, |contents, manifest| contents.document(kind, &manifest.digest))
            .await
    }

    /// What a manifest that is stored says of what its image was made from.
    async fn claimed_origin(&self, manifest: &Digest) -> Result<Option<ClaimedOrigin>, BuildError> {
        let Some(bytes) = self.store.small_blob(manifest).await? else { return Ok(None) };
        let Ok(Document::Image(image)) = Document::parse(&bytes) else { return Ok(None) };
        let config = self.store.small_blob(&image.config.digest).await?;
        Ok(config.and_then(|config| ClaimedOrigin::of_config(&config, self.packages.flake())))
    }

    /// What `make` makes of the contents of an image and the descriptor of one of its manifests. None if the image that
    /// this instance makes now, of what is on record, has no such manifest.
    async fn with_contents<T>(
        &self,
        origin: &ClaimedOrigin,
        manifest: &Digest,
        make: impl FnOnce(&Contents<'_>, &Descriptor) -> T,
    ) -> Result<Option<T>, BuildError> {
        let ClaimedOrigin { name, revision } = origin;
        let (platform, trust) = (self.platform_of(name), self.packages.trust(revision));
        let recalled = self.packages.recall(revision, trust, platform, name.candidates()).await?;
        let Some(known) = recalled.complete() else { return Ok(None) };
        let is_same = |one: &Arc<PackageRecord>, other: &Arc<PackageRecord>| one.is_same(other);
        let Ok(selected) = select(name, is_same, |package| known.package(package)) else { return Ok(None) };
        let packages: Vec<_> = selected.iter().map(|selected| selected.as_deref()).collect();
        let ingredients =
            Ingredients { name, platform, revision, revision_date: known.revision_date, packages: &packages };
        let encoding = self.layers.encoder().encoding();
        let group = |closure: &Closure, parts: &[Part]| {
            self.recipe.strategy.layers(closure, parts, self.recipe.layer_budget)
        };
        let Ok(blueprint) = Blueprint::new(ingredients, group, &encoding) else { return Ok(None) };
        let looks: Vec<_> = blueprint
            .layers
            .iter()
            .map(|plan| self.store.record::<LayerRecord>(RecordKind::Layer, &plan.key))
            .collect();
        let layers: Vec<Option<LayerRecord>> = stream::iter(looks).buffered(LOOKUPS).try_collect().await?;
        let Some(layers) = layers.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        let Some(subject) = described(&blueprint.assemble(&layers), manifest) else { return Ok(None) };
        let strategy = self.recipe.strategy.version();
        let method =
            Method { strategy: &strategy, layer_budget: self.recipe.layer_budget, encoding: &encoding };
        Ok(Contents::new(ingredients, method).ok().map(|contents| make(&contents, &subject)))
    }
}

/// The descriptor of the manifest with this digest, if it is one of the image's.
fn described(image: &Image, manifest: &Digest) -> Option<Descriptor> {
    let manifests =
        [(ManifestFormat::Oci, Some(&image.oci)), (ManifestFormat::Docker, image.docker.as_ref())];
    manifests.into_iter().find_map(|(format, blob)| {
        let blob = blob.filter(|blob| blob.digest == *manifest)?;
        Some(Descriptor::new(format.manifest(), blob.digest, blob.bytes.len() as u64))
    })
}
