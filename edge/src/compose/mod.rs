//! Composes images at the edge, from packages that the backend has published, in combinations that it may never have
//! seen.
//!
//! `firn_shared::composition` decides what an image consists of. This module finds the records (`records`), stores
//! the two small new blobs (`blobs`), and keeps the order: blobs are stored before any client gets the manifest.
//! Composing twice gives the same bytes, so requests do not wait for each other. If anything is missing or fails, the
//! backend answers.

mod blobs;
pub(crate) mod kept;
mod records;

pub(crate) use records::learn;

use crate::{
    cache::Key, config::BlobOrigin, edge::Edge, kv_store::KvStore, location, manifest::Manifest, tag_pointer,
};
use blobs::Shelf;
use firn_shared::{
    composition::{ComposeError, compose},
    image::{Image, SmallBlob},
    link::protocol::ImageSetId,
    naming::image_name::ImageName,
    oci::{
        digest::Digest, document::ChildKind, media_type::ManifestFormat, reference::Tag,
        repository_name::RepositoryName,
    },
};
use futures_util::future::join;
use records::Records;
use std::rc::Rc;
use worker::console_log;

/// An image that was composed but not stored.
struct Composed {
    image: Image,
    /// The name of the package set's revision.
    revision: String,
    shelf: Shelf,
}

/// Whether this deployment composes images.
pub(crate) fn is_on(edge: &Edge) -> bool {
    Shelf::of(&edge.env, &edge.config).is_some()
}

/// Whether an image of a package set can be composed.
pub(crate) async fn is_possible(edge: &Rc<Edge>, package_set: &ImageSetId, name: &ImageName) -> bool {
    image(edge, package_set, name).await.is_some()
}

/// The manifest of an image of a package set, if it can be composed. Stores its blobs.
pub(crate) async fn by_tag(
    edge: &Rc<Edge>,
    package_set: &ImageSetId,
    name: &ImageName,
    format: ManifestFormat,
) -> Option<Manifest> {
    let composed = image(edge, package_set, name).await?;
    store(edge, composed, package_set, name, format).await
}

/// The manifest with a digest, if it is the image of this name in the package set that `latest` named last. This
/// finds a manifest that another location has just composed and that KV does not show yet.
pub(crate) async fn by_digest(edge: &Rc<Edge>, name: &RepositoryName, digest: &Digest) -> Option<Manifest> {
    let name = ImageName::of(name).ok()?;
    let pointer = tag_pointer::recall(edge, &Tag::default()).await?;
    let composed = image(edge, &pointer.package_set, &name).await?;
    let is = |manifest: &SmallBlob| manifest.digest == *digest;
    let format = if is(&composed.image.oci) {
        ManifestFormat::Oci
    } else if composed.image.docker.as_ref().is_some_and(is) {
        ManifestFormat::Docker
    } else {
        return None;
    };
    store(edge, composed, &pointer.package_set, &name, format).await
}

/// How long a location remembers how far [`hold`] has come, in seconds: a week.
const HELD_SECONDS: u64 = 7 * 24 * 3600;

/// Makes sure that the blobs of a composed image are kept for as long again as its manifest. Returns whether they are. If
/// there are many blobs, this takes several calls, which may be in different isolates.
pub(crate) async fn hold(edge: &Edge, manifest: &Manifest) -> bool {
    // The backend does not see what the edge says in a bucket of its own.
    if matches!(edge.config.blobs, BlobOrigin::Backend(_)) {
        return false;
    }
    let (Some(shelf), Ok(document)) = (Shelf::of(&edge.env, &edge.config), manifest.document()) else {
        return false;
    };
    let blobs = document.children().filter(|child| child.kind == ChildKind::Blob);
    let blobs: Vec<Digest> = blobs.map(|child| child.descriptor.digest).collect();
    let path = format!("held/{}", manifest.metadata.digest.hex());
    let begun = location::get(edge, &path).await.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
    let Some(held) = shelf.hold(&blobs, begun.unwrap_or(0)).await else { return false };
    if held < blobs.len() {
        location::keep(edge, &path, held.to_string().into_bytes(), HELD_SECONDS);
        return false;
    }
    location::forget(edge, &path).await;
    true
}

async fn image(edge: &Rc<Edge>, package_set: &ImageSetId, name: &ImageName) -> Option<Composed> {
    let shelf = Shelf::of(&edge.env, &edge.config)?;
    let records = Records::open(&edge.env, &edge.config);
    let set = records.package_set(package_set).await?;
    let packages = records.packages(package_set, name.platform().unwrap_or(set.recipe.platform), name).await;
    edge.later(async move { records.keep_found().await });
    if !name.packages().all(|name| packages.contains_key(name)) {
        return None;
    }
    match compose(name, &set, |name| packages.get(name).map(Rc::as_ref)) {
        Ok(image) => Some(Composed { image, revision: set.revision.id().to_owned(), shelf }),
        Err(reason) => {
            if let ComposeError::NeverPacked(..) = reason {
                let platform = name.platform().unwrap_or(set.recipe.platform);
                Records::forget(package_set, platform, packages.keys());
            }
            let line = serde_json::json!({
                "message": "image not composed", "image": name.to_string(), "reason": reason.to_string(),
            });
            console_log!("{line}");
            None
        }
    }
}

/// Stores the new blobs of an image. Returns its manifest if all of them are stored.
async fn store(
    edge: &Rc<Edge>,
    composed: Composed,
    package_set: &ImageSetId,
    name: &ImageName,
    format: ManifestFormat,
) -> Option<Manifest> {
    let Composed { image, revision, shelf } = composed;
    let SmallBlob { bytes, .. } = match format {
        ManifestFormat::Oci => image.oci,
        ManifestFormat::Docker => image.docker?,
    };
    let kept = join(shelf.keep(image.top), shelf.keep(image.config)).await;
    if kept != (true, true) {
        return None;
    }
    let mut manifest = Manifest::new(&bytes, format.manifest().to_owned(), Some(revision));
    manifest.metadata.composed = true;
    Key::digest(edge, &manifest.metadata.digest).keep(edge, &manifest);
    if let Some(kv) = KvStore::open(&edge.env, &edge.config) {
        // Clients ask for the manifest by digest next, and no backend knows it.
        kv.learn_digest(&manifest).await;
        let (copy, package_set, name) = (manifest.clone(), package_set.clone(), name.clone());
        edge.later(async move { kv.learn_image(&package_set, &name, format, &copy).await });
    }
    Some(manifest)
}
