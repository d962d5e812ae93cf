//! Composing an image without the backend, from what the backend has published about its packages.
//!
//! Because layers do not look at the image, an image of packages that have been seen is decided by what is known
//! of each of them. The backend writes that down, when it has built an image, as two kinds of records:
//!
//! - one per *package-set token* ([`PackageSetRecord`]): what all images of the token have in common;
//! - one per token, platform and package name ([`KnownPackage`]): closure, files, metadata, and the layers that the
//!   package brings into images; or that there is no such package, for names that images only imply (`nano` of
//!   `shell`).
//!
//! [`compose`] makes an image of them by the same code as the backend, so that it has the same bytes. Whatever is
//! missing is an error that means "ask the backend", which knows better and says so in its own words: a package
//! without record, a package that cannot be had, a layer that was never packed. An image that takes a step
//! ([`crate::layering::Sharing`]) which its packages have not been in before has such layers; so has one whose packages
//! alone are over the budget at the last step, which has a tail of its own.
//!
//! **Where the records are.** In the backend's object store under [`crate::link::object_key::composition_key`], where an
//! edge with access to the same bucket finds them; and at the backend's [`PATH`]`<key>`. Keys are computed by both
//! sides. A newer record replaces an older one: layers become known later, and records that disagree about the content
//! of a store path are made to agree ([`crate::image::settlement`]). Images of records that still disagree are settled by the
//! same rule as the backend's.
//!
//! **For whoever deletes old objects.** A record promises that the layers it names exist
//! ([`KnownPackage::layers`]). The backend writes a record anew when it is needed, once a day at most, so its age says
//! since when it is not. The edge composes from none that is older than `FIRN_MANIFEST_TTL_SECONDS` (30 days), and
//! keeps what it has composed for as long again; so layers have to stay for twice as long as the youngest record that
//! names them is old. Where edge and backend share a bucket, `blobs/` also holds symlink layers and configs that the
//! edge wrote; no record names those, but each has an object under [`crate::link::object_key::composed_key`], which the edge
//! writes before the blob, and again with every image that has it. Manifests that name it live for 30 days.
//!
//! **Versions.** [`VERSION`] is part of keys and of the records themselves, with [`image::FORMAT`]: what another
//! version of Firn wrote is not found, and not read if it is.

mod record;

pub use record::{KnownPackage, PackageSetRecord, ReadRecordError, RecipeRecord, Undescribable};

use crate::{
    cache_key::CacheKey,
    image::{self, Blueprint, BlueprintError, Image, Ingredients, layer::LayerRecord, selection::select},
    layering::{RevisionProfile, Sharing, Strategy},
    link::protocol::PackageSetToken,
    naming::{
        image_name::ImageName,
        package::{PackageProblem, ProblemKind},
        package_name::PackageName,
    },
    nix::closure::{Closure, ClosureError},
    oci::platform::Platform,
};
use std::sync::Arc;

/// Changes whenever a record's bytes, or what they mean, change.
pub const VERSION: u32 = 3;
/// Where the backend serves records, followed by the key. Like everything else there it wants to know that the
/// edge asks.
pub const PATH: &str = "/composition/";
/// The longest record that there may be, in bytes: KV takes 25 MiB.
pub const MAX_RECORD_BYTES: usize = 24 << 20;

/// Why an image cannot be composed here; all of it is for the backend to deal with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// There is no record of a package.
    #[error("nothing is known of {0}")]
    Unknown(PackageName),
    /// A package that the image needs cannot be had.
    #[error("a package cannot be had")]
    Problem,
    /// The records are from a strategy that this is not.
    #[error("layers are made by {0}, which is unknown here")]
    Strategy(String),
    /// The packages make no image, or their closures contradict each other in a way that [`crate::image::settlement`] does not
    /// decide.
    #[error(transparent)]
    Blueprint(#[from] BlueprintError),
    /// More than the operator allows.
    #[error("the image holds {0} bytes, more than allowed")]
    TooLarge(u64),
    /// It has a layer that no other image has.
    #[error("the image has more packages than layers, so that one of them is its own")]
    OwnLayer,
    /// A layer was never packed.
    #[error("the layer of {0} and {1} other store paths was never packed")]
    NeverPacked(String, usize),
}

/// The key of the record of a package-set token.
pub fn package_set_key(token: &PackageSetToken) -> CacheKey {
    key("composition-set", token).build()
}

/// The key of the record of a package.
pub fn package_key(token: &PackageSetToken, platform: Platform, name: &PackageName) -> CacheKey {
    key("composition-package", token).field(platform.system()).field(name.as_str()).build()
}

fn key(kind: &str, token: &PackageSetToken) -> crate::cache_key::CacheKeyBuilder {
    let builder = CacheKey::builder(kind).field(VERSION.to_le_bytes()).field(image::FORMAT.to_le_bytes());
    builder.field(token.as_str())
}

/// Whether records name different contents of one store path: one of them is out of date then.
pub fn disagree<'a>(packages: impl IntoIterator<Item = &'a KnownPackage>) -> bool {
    let described = packages.into_iter().filter_map(KnownPackage::described);
    let closures = described.flat_map(|described| &described.record.closure);
    matches!(Closure::new(closures), Err(ClosureError::Contradiction(_)))
}

/// The image of a name, given what is known of each of [`ImageName::candidates`].
///
/// # Errors
/// When it takes the backend; see the module's description.
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
