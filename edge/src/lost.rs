//! Recovers a missing blob of an image that the edge still serves: asks the backend for the image again, which makes
//! what is missing.
//!
//! The requested blob must belong to a cached manifest: to the one that the tag names or, if that is an index, to one that it
//! lists. So a made-up digest costs a few reads of KV, which count against the client's limit of look-ups. Asking the backend counts as a miss of the client. Clients that miss
//! several blobs of an image at once share one request, in the image's Durable Object.

use crate::{
    cache::Key,
    edge::Edge,
    flight::{self, Purpose},
    kv_store::KvStore,
    limit::Limit,
    manifest::Manifest,
    memory, pulls, tag_pointer,
    wanted::Wanted,
};
use firn_shared::{
    naming::image_name::ImageName,
    oci::{
        digest::Digest,
        document::{ChildKind, Document},
        media_type::ManifestFormat,
        reference::Tag,
        repository_name::RepositoryName,
    },
};
use std::rc::Rc;

/// How many tags besides `latest` are tried.
const MAX_TAGS: usize = 4;
/// How many manifests of an index are looked at.
const MAX_LISTED: usize = 8;

/// A cached image that a blob belongs to.
struct Holder {
    wanted: Wanted,
    /// The manifest or index that the tag names.
    named: Digest,
    /// The manifest in the index that refers to the blob. None if `named` refers to it.
    listed: Option<Digest>,
}

/// Has the backend make a blob again. Returns whether the blob may be there now.
pub(crate) async fn recover(edge: &Rc<Edge>, name: &RepositoryName, blob: &Digest) -> bool {
    if Limit::LookUps.check(edge).await.is_err() {
        return false;
    }
    let Some(holder) = find(edge, name, blob).await else { return false };
    if Limit::Misses.check(edge).await.is_err() {
        return false;
    }
    let Holder { wanted, named, listed } = holder;
    match flight::board(edge, &wanted, Purpose::Repair(*blob), None).await {
        Ok(fetched) if fetched.manifest.metadata.digest == named => true,
        // A client that asks for an old manifest by its digest is told that it is gone.
        Ok(fetched) => {
            for digest in [named].into_iter().chain(listed) {
                pulls::forget(edge, &digest, None).await;
            }
            if let Some(set) = &fetched.package_set {
                Key::image(edge, set, &wanted.image, wanted.format).keep(edge, &fetched.manifest);
            }
            false
        }
        Err(error) => {
            // If no backend can be asked, keep the manifests: clients may have the rest of the image.
            if !error.is_passing() {
                pulls::forget(edge, &named, Some(&wanted)).await;
                if let Some(listed) = listed {
                    pulls::forget(edge, &listed, None).await;
                }
            }
            false
        }
    }
}

/// The cached image of this name that contains the blob.
async fn find(edge: &Edge, name: &RepositoryName, blob: &Digest) -> Option<Holder> {
    let image = ImageName::of(name).ok()?;
    let store = KvStore::open(&edge.env, &edge.config)?;
    let latest = Tag::default();
    let others = memory::tags(MAX_TAGS).into_iter().filter(|tag| *tag != latest);
    for tag in [latest.clone()].into_iter().chain(others) {
        let Some(pointer) = tag_pointer::recall(edge, &tag).await else { continue };
        for format in [ManifestFormat::Oci, ManifestFormat::Docker] {
            let manifest = store.manifest(&pointer.package_set, &image, format).await;
            let Some((manifest, document)) = manifest.and_then(read) else { continue };
            let is_own = refers(&document, blob);
            let listed = if is_own { None } else { listed(edge, &store, &document, blob).await };
            if is_own || listed.is_some() {
                let (wanted, named) = (Wanted { image, tag, format }, manifest.metadata.digest);
                return Some(Holder { wanted, named, listed });
            }
        }
    }
    None
}

/// The cached manifest of an index that refers to a blob.
async fn listed(edge: &Edge, store: &KvStore, index: &Document, blob: &Digest) -> Option<Digest> {
    let manifests = index.children().filter(|child| child.kind == ChildKind::Manifest);
    for digest in manifests.map(|child| child.descriptor.digest).take(MAX_LISTED) {
        // A client has just asked for it, and KV may still say that it is not there.
        let manifest = match Key::digest(edge, &digest).get().await {
            Some(manifest) => Some(manifest),
            None => store.by_digest(&digest).await,
        };
        if manifest.and_then(read).is_some_and(|(_, document)| refers(&document, blob)) {
            return Some(digest);
        }
    }
    None
}

/// A manifest with what it says. None if this version does not read it.
fn read(manifest: Manifest) -> Option<(Manifest, Document)> {
    let document = manifest.document().ok()?;
    Some((manifest, document))
}

fn refers(document: &Document, blob: &Digest) -> bool {
    document.children().any(|child| child.descriptor.digest == *blob)
}
