//! Explaining layers without building: which layers an image has or would have, and which images share them.

use super::{BuildError, Builder, PackageSetState};
use crate::{
    store::{ImageRecord, RecordKind},
    waiting::{Audience, Client, Progress},
};
use firn_shared::{
    Closure, Digest,
    image::layer::{LayerPlan, LayerRecord},
    layering::{Grouping, Layer, Part},
    naming::image_name::ImageName,
    oci::document::Document,
};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

/// A layer of an image, and why it is one.
#[derive(Debug, Clone)]
pub struct ExplainedLayer {
    /// What is in it.
    pub plan: LayerPlan,
    /// The packed layer, if there is one yet.
    pub record: Option<LayerRecord>,
    /// Names of its members, the largest first.
    pub names: Vec<String>,
    /// Why its members are together.
    pub why: String,
    /// The packages of the image that need it, by the names of their store paths.
    pub packages: Vec<String>,
}

impl Builder {
    /// The layers of store paths that an image has, bottom first. What no binary cache has of its packages is
    /// realised, nothing is packed.
    ///
    /// # Errors
    /// When its packages cannot be had.
    pub async fn explain(
        &self,
        name: &ImageName,
        set: &PackageSetState,
    ) -> Result<Vec<ExplainedLayer>, BuildError> {
        let progress = Progress::new(name.to_string(), Audience::of(Client::NOBODY));
        let budget = self.recipe.layer_budget;
        let mut told = Vec::new();
        let group = |closure: &Closure, parts: &[Part]| {
            let layers = self.recipe.strategy.layers(closure, parts, budget);
            let needed: Vec<(&str, BTreeSet<usize>)> =
                parts.iter().filter_map(|part| needed(closure, part)).collect();
            let names = |layer: &Layer| -> Vec<String> {
                let mut members: Vec<_> = layer.members.iter().map(|&i| &closure.paths()[i]).collect();
                members.sort_by_key(|member| Reverse(member.nar_size));
                members.into_iter().map(|member| member.path.name().to_owned()).collect()
            };
            let packages = |layer: &Layer| -> Vec<String> {
                let brings =
                    |(_, needed): &&(&str, BTreeSet<usize>)| layer.members.iter().all(|i| needed.contains(i));
                needed.iter().filter(brings).map(|(name, _)| (*name).to_owned()).collect()
            };
            let tell = |layer| (names(layer), reason(layer, closure), packages(layer));
            told = layers.layers.iter().map(tell).collect();
            layers
        };
        let trust = self.packages.trust(&set.revision);
        let recalled =
            self.packages.recall(&set.revision, trust, self.platform_of(name), name.candidates()).await?;
        let known = self.find(name, &set.revision, recalled, &progress).await?;
        let plans = self.plan(name, &known, group)?;
        let mut layers = Vec::new();
        for (plan, (names, why, packages)) in plans.into_iter().zip(told) {
            let record = self.store.record(RecordKind::Layer, &plan.key).await?;
            layers.push(ExplainedLayer { plan, record, names, why, packages });
        }
        Ok(layers)
    }

    /// For each layer in the store, the images that have it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn images_by_layer(&self) -> Result<HashMap<Digest, Vec<String>>, BuildError> {
        let mut images: HashMap<Digest, Vec<String>> = HashMap::new();
        for image in self.store.records::<ImageRecord>(RecordKind::Image).await? {
            // Its other documents have the same layers.
            let tree = self.store.tree(&image.documents()[..1]).await?;
            let layers = tree.documents.into_iter().flat_map(|(_, document)| match document {
                Document::Image(manifest) => manifest.layers,
                Document::Index(_) => Vec::new(),
            });
            for layer in layers {
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

/// A package's name, and the members of the closure that it needs; nothing of a package without outputs.
fn needed<'a>(closure: &'a Closure, part: &Part) -> Option<(&'a str, BTreeSet<usize>)> {
    let first = *part.outputs.first()?;
    let (mut needed, mut next) = (BTreeSet::new(), part.outputs.clone());
    while let Some(i) = next.pop() {
        if needed.insert(i) {
            next.extend(&closure.paths()[i].references);
        }
    }
    Some((closure.paths()[first].path.name(), needed))
}

/// Why a layer's members are together, for people.
fn reason(layer: &Layer, closure: &Closure) -> String {
    let name = |member: usize| closure.paths()[member].path.name();
    match layer.reason {
        Grouping::Needed(_) if layer.members.len() == 1 => "worth a layer".to_owned(),
        Grouping::Needed(top) => format!("needed by {}, without layers of their own", name(top)),
        Grouping::Tail => "to stay within the budget".to_owned(),
        Grouping::Below(top) => format!("needed by {} alone", name(top)),
        Grouping::Merged => "lowest ratings, to stay within the budget".to_owned(),
    }
}
