//! Recovers a missing blob of an image that the edge still serves: asks the backend for the image again, which makes
//! what is missing.
//!
//! The requested blob must belong to a cached manifest. So a made-up digest costs a few reads of KV, which count
//! against the client's limit of look-ups. Asking the backend counts as a miss of the client. Clients that miss
//! several blobs of an image at once share one request, in the image's Durable Object.

use crate::{
    cache::Key,
    edge::Edge,
    flight::{self, Purpose},
    kv_store::KvStore,
    limit::Limit,
    manifest::Manifest,
    memory, pulls,
    wanted::Wanted,
};
use firn_shared::{
    naming::image_name::ImageName,
    oci::{
        digest::Digest, error::ErrorCode, media_type::ManifestFormat, reference::Tag,
        repository_name::RepositoryName,
    },
};
use std::rc::Rc;

/// How many tags besides `latest` are tried.
const MAX_TAGS: usize = 4;

/// Has the backend make a blob again. Returns whether the blob may be there now.
pub(crate) async fn recover(edge: &Rc<Edge>, name: &RepositoryName, blob: &Digest) -> bool {
    if Limit::LookUps.check(edge).await.is_err() {
        return false;
    }
    let Some((wanted, manifest)) = find(edge, name, blob).await else { return false };
    if Limit::Misses.check(edge).await.is_err() {
        return false;
    }
    let old = manifest.metadata.digest;
    match flight::board(edge, &wanted, Purpose::Repair(*blob)).await {
        Ok(fetched) if fetched.manifest.metadata.digest == old => true,
        // A client that asks for the old manifest by its digest is told that it is gone.
        Ok(fetched) => {
            pulls::forget(edge, &old, None).await;
            Key::tag(edge, &wanted.image, &wanted.tag, wanted.format).keep(edge, &fetched.manifest);
            false
        }
        Err(error) => {
            use ErrorCode::{Internal, Toomanyrequests, Unavailable};
            // If no backend can be asked, keep the manifest: clients may have the rest of the image.
            if !matches!(error.code, Internal | Toomanyrequests | Unavailable) {
                pulls::forget(edge, &old, Some(&wanted)).await;
            }
            false
        }
    }
}

/// The cached image of this name that contains the blob.
async fn find(edge: &Edge, name: &RepositoryName, blob: &Digest) -> Option<(Wanted, Manifest)> {
    let image = ImageName::of(name).ok()?;
    let store = KvStore::open(&edge.env, &edge.config)?;
    let latest = Tag::default();
    let others = memory::tags(MAX_TAGS).into_iter().filter(|tag| *tag != latest);
    for tag in [latest.clone()].into_iter().chain(others) {
        let Some(pointer) = store.pointer(&tag).await else { continue };
        for format in [ManifestFormat::Oci, ManifestFormat::Docker] {
            let manifest = store.manifest(&pointer.package_set, &image, format).await;
            if let Some(manifest) = manifest.filter(|manifest| has(manifest, blob)) {
                return Some((Wanted { image, tag, format }, manifest));
            }
        }
    }
    None
}

/// Whether a manifest refers to a blob.
fn has(manifest: &Manifest, blob: &Digest) -> bool {
    let document = manifest.document();
    document.is_ok_and(|document| document.children().any(|child| child.descriptor.digest == *blob))
}
