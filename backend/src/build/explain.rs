//! Looking at layers without building: which an image has or would have, and who shares them.

use super::{BuildError, Builder, ImageRecord, PackageSetState, Progress};
use crate::{store::RecordKind, turns::Client};
use firn_shared::{
    Digest,
    image_name::ImageName,
    layer::{LayerPlan, LayerRecord},
};
use serde::Deserialize;
use std::collections::HashMap;

/// A layer of an image, and why it is one.
#[derive(Debug, Clone)]
pub struct ExplainedLayer {
    /// What is in it.
    pub plan: LayerPlan,
    /// The packed layer, if there is one yet.
    pub record: Option<LayerRecord>,
    /// Why its members are together.
    pub why: String,
}

impl Builder {
    /// The layers of store paths that an image has, bottom first. Its packages are realised, nothing is packed.
    ///
    /// # Errors
    /// When its packages cannot be had.
    pub async fn explain(
        &self,
        name: &ImageName,
        set: &PackageSetState,
    ) -> Result<Vec<ExplainedLayer>, BuildError> {
        let progress = Progress::new(name.to_string(), Client::NOBODY);
        let (blueprint, _known) = self.prepare(name, &set.revision, &progress).await?;
        let is_over_budget = blueprint.layers.len() >= self.recipe.layer_budget;
        let last = blueprint.layers.len().saturating_sub(1);
        let mut layers = Vec::new();
        for (i, plan) in blueprint.layers.into_iter().enumerate() {
            let why = match plan.paths.len() {
                1 => "alone, so that every image with it shares it",
                _ if is_over_budget && i == last => "the smallest, to stay within the budget",
                _ => "nearly always needed together",
            };
            let record = self.store.record(RecordKind::Layer, &plan.key).await?;
            layers.push(ExplainedLayer { plan, record, why: why.to_owned() });
        }
        Ok(layers)
    }

    /// For each layer in the store, the images that have it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn images_by_layer(&self) -> Result<HashMap<Digest, Vec<String>>, BuildError> {
        /// The part of a manifest that matters here.
        #[derive(Deserialize)]
        struct Manifest {
            layers: Vec<Layer>,
        }
        #[derive(Deserialize)]
        struct Layer {
            digest: Digest,
        }
        let mut images: HashMap<Digest, Vec<String>> = HashMap::new();
        for image in self.store.records::<ImageRecord>(RecordKind::Image).await? {
            let manifest = self.store.small_blob(&image.oci.digest).await?;
            let manifest = manifest.and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok());
            for layer in manifest.into_iter().flat_map(|manifest| manifest.layers) {
                let names = images.entry(layer.digest).or_default();
                // One name can be there at several revisions.
                if !names.contains(&image.name) {
                    names.push(image.name.clone());
                }
            }
        }
        images.values_mut().for_each(|names| names.sort_unstable());
        Ok(images)
    }
}
