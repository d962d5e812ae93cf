//! Composes an image without the backend, from records that the backend has published about the image's packages.
//!
//! Each layer depends on one package only, so an image of known packages follows from the records of its packages.
//! After building an image, the backend publishes two kinds of records:
//!
//! - One record per *image set* ([`PackageSetRecord`]) says what all its images have in common.
//! - One record per image set, platform and package name ([`KnownPackage`]) has the package's closure, files and
//!   metadata, and the layers that it brings into images. For a name that images only imply (such as `nano`, which
//!   `shell` implies), it may say that there is no such package.
//!
//! [`compose`] makes an image from these records with the same code as the backend, so that it has the same bytes. If
//! something is missing, it returns an error; the edge then asks the backend. That happens if a package has no record
//! or is not available, or if a layer was never packed. An image has layers that were never packed if it takes a step
//! ([`crate::layering::Sharing`]) that its packages have not taken before. An image whose packages exceed the budget
//! even at the last step has a layer of its own.
//!
//! **Where the records are.** The backend stores them in its object store under
//! [`crate::link::object_key::composition_key`], where an edge with access to the same bucket reads them. It also
//! serves them at [`PATH`]`<key>`. Both sides compute the keys. A newer record replaces an older one, for two
//! reasons: more layers become known, and records that disagree about the content of a store path are updated
//! ([`crate::image::settlement`]). If records still disagree, edge and backend settle on the content by the same
//! rule.
//!
//! **How long objects must be kept.** A record guarantees that its layers exist ([`KnownPackage::layers`]). The backend
//! rewrites a record when it is used, at most once a day, so the record's age says how long it has not been used. The
//! edge does not compose from records older than `FIRN_MANIFEST_TTL_SECONDS` (30 days), and keeps composed manifests
//! for as long again. So a layer must be kept for twice that time after the last write of a record that has it. If
//! edge and backend share a bucket, `blobs/` also contains symlink layers and configs that the edge wrote. No record
//! has those, but each has a marker under [`crate::link::object_key::composed_key`]. The edge writes the marker
//! before the blob, and again with every image that has the blob. Manifests with the blob are kept for 30 days.
//!
//! **Versions.** Keys and records contain [`VERSION`] and [`image::FORMAT`]. So the records of another version of
//! Firn are not found, and would be refused.

mod record;

pub use record::{KnownPackage, PackageSetRecord, ReadRecordError, RecipeRecord, Undescribable};

use crate::{
    cache_key::CacheKey,
    image::{self, Blueprint, BlueprintError, Image, Ingredients, layer::LayerRecord, selection::select},
    layering::{RevisionProfile, Sharing, Strategy},
    link::protocol::ImageSetId,
    naming::{
        image_name::ImageName,
        package::{PackageProblem, ProblemKind},
        package_name::PackageName,
    },
    nix::closure::{Closure, ClosureError},
    oci::platform::Platform,
};
use std::sync::Arc;

/// The version of the records. Increase it when a record's bytes or their meaning change.
pub const VERSION: u32 = 3;
/// The prefix of the path at which the backend serves a record; the key follows. As for other paths, the request must
/// be signed by the edge.
pub const PATH: &str = "/composition/";
/// The greatest size of a record, in bytes. Workers KV allows 25 MiB.
pub const MAX_RECORD_BYTES: usize = 24 << 20;

/// Why an image cannot be composed from records. The backend must answer the request instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// There is no record of a package.
    #[error("there is no record of {0}")]
    Unknown(PackageName),
    /// A package that the image needs is not available.
    #[error("a package is not available")]
    Problem,
    /// The layering strategy is unknown here.
    #[error("the layering strategy {0} is unknown here")]
    Strategy(String),
    /// The image cannot be made, or the records contradict each other in a way that [`crate::image::settlement`] cannot
    /// settle.
    #[error(transparent)]
    Blueprint(#[from] BlueprintError),
    /// The image is larger than the operator allows.
    #[error("the image has {0} bytes, more than allowed")]
    TooLarge(u64),
    /// The image has a layer that no other image has.
    #[error("the image has too many packages for its budget of layers, so one of its layers is its own")]
    OwnLayer,
    /// A layer was never packed.
    #[error("the layer of {0} and {1} other store paths was never packed")]
    NeverPacked(String, usize),
}

/// The key of the record of an image set.
pub fn package_set_key(token: &ImageSetId) -> CacheKey {
    key("composition-set", token).build()
}

/// The key of the record of a package.
pub fn package_key(token: &ImageSetId, platform: Platform, name: &PackageName) -> CacheKey {
    key("composition-package", token).field(platform.system()).field(name.as_str()).build()
}

fn key(kind: &str, token: &ImageSetId) -> crate::cache_key::CacheKeyBuilder {
    let builder = CacheKey::builder(kind).field(VERSION.to_le_bytes()).field(image::FORMAT.to_le_bytes());
    builder.field(token.as_str())
}

/// Whether records name different contents for one store path. If so, at least one of them is out of date.
pub fn disagree<'a>(packages: impl IntoIterator<Item = &'a KnownPackage>) -> bool {
    let described = packages.into_iter().filter_map(KnownPackage::described);
    let closures = described.flat_map(|described| &described.record.closure);
    matches!(Closure::new(closures), Err(ClosureError::Contradiction(_)))
}

/// Composes the image of a name. `known` returns the record of each of [`ImageName::candidates`].
///
/// # Errors
/// If the image cannot be composed from the records; see the module's description.
pub fn compose<'a>(
    name: &ImageName,
    set: &PackageSetRecord,
    known: impl Fn(&PackageName) -> Option<&'a KnownPackage>,
) -> Result<Image, ComposeError> {
    let mut unknown = None;
    let absent = || PackageProblem::new(ProblemKind::NotFound, "");
    let resolve = |package: &PackageName| match known(package) {
        Some(known) => known.described().ok_or_else(absent),
        None => {
            unknown.get_or_insert_with(|| package.clone());
            Err(absent())
        }
    };
    let selected = select(name, |one, other| one.record.is_same(&other.record), resolve);
    if let Some(package) = unknown {
        return Err(ComposeError::Unknown(package));
    }
    let selected = selected.map_err(|_| ComposeError::Problem)?;

    let places = selected.iter().flat_map(|selected| selected.package.places());
    let profile = RevisionProfile::excerpt(&set.profile, set.layer_bytes, places);
    let strategy = Sharing::new(Arc::new(profile));
    if strategy.version() != set.recipe.strategy {
        return Err(ComposeError::Strategy(set.recipe.strategy.clone()));
    }
    let packages: Vec<_> = selected.iter().map(|selected| selected.with(&selected.package.record)).collect();
    let ingredients = Ingredients {
        name,
        platform: name.platform().unwrap_or(set.recipe.platform),
        revision: &set.revision,
        revision_date: set.revision_date,
        packages: &packages,
    };
    let blueprint = Blueprint::new(
        ingredients,
        |closure, parts| strategy.layers(closure, parts, set.recipe.layer_budget),
        &set.recipe.encoding,
    )?;
    if blueprint.nar_size > set.recipe.closure_bytes {
        return Err(ComposeError::TooLarge(blueprint.nar_size));
    }
    if blueprint.step.is_none() {
        return Err(ComposeError::OwnLayer);
    }
    let layers = blueprint
        .layers
        .iter()
        .map(|plan| {
            let packed = selected.iter().find_map(|selected| selected.package.layers.get(&plan.key));
            packed.cloned().ok_or_else(|| {
                let first = plan.paths.first().map(|path| path.base_name().to_owned());
                ComposeError::NeverPacked(first.unwrap_or_default(), plan.paths.len().saturating_sub(1))
            })
        })
        .collect::<Result<Vec<LayerRecord>, _>>()?;
    Ok(blueprint.assemble(&layers))
}

#[cfg(test)]
mod tests;
