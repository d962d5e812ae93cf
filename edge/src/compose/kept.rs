//! Which blobs are in the bucket of this Worker although clients get blobs from the backend: those of composed images.
//!
//! Nearly no blob is, and every blob of a pull is asked about. So the answer is remembered by the isolate and by the
//! location, also if it is no. KV, whose reads are billed, is asked when neither knows. Of a composed image that is
//! served here, it is known without asking.

use crate::{
    blob_location::BUCKET, config::BlobOrigin, edge::Edge, kv::Kv, kv_store, location, manifest::Manifest,
    memory,
};
use firn_shared::{
    link::edge_cache::composed_blob_key,
    oci::{digest::Digest, document::ChildKind},
};

/// How long the location remembers that a blob is here: a day, in seconds. It is never deleted sooner.
const HERE_SECONDS: u64 = 24 * 3600;
/// How long it remembers that a blob is not, in seconds. Another location may compose an image that contains it;
/// clients get the manifest before the blob, and [`learn`] then knows better.
const ELSEWHERE_SECONDS: u64 = 3600;

/// Whether a blob was composed, and must be read from the bucket although other blobs are elsewhere.
pub(crate) async fn is_kept_here(edge: &Edge, digest: &Digest) -> bool {
    if !is_needed(edge) {
        return false;
    }
    if let Some(is_here) = memory::kept_blob(digest) {
        return is_here;
    }
    let Some(kv) = Kv::bound(&edge.env, kv_store::BINDING) else { return false };
    let path = path(digest);
    let remembered = match location::get(edge, &path).await.as_deref() {
        Some(b"1") => Some(true),
        Some(b"0") => Some(false),
        _ => None,
    };
    let is_here = match remembered {
        Some(is_here) => is_here,
        None => {
            let Ok(noted) = kv.text(&composed_blob_key(digest).to_string()).await else { return false };
            remember(edge, digest, noted.is_some());
            noted.is_some()
        }
    };
    memory::remember_kept_blob(digest, is_here, memory_seconds(is_here));
    is_here
}

/// Remembers the blobs of a composed image that are here: the config and the symlink layer, which is the last one.
pub(crate) fn learn(edge: &Edge, manifest: &Manifest) {
    if !is_needed(edge) || memory::kept_blob(&manifest.metadata.digest).is_some() {
        return;
    }
    let Ok(document) = manifest.document() else { return };
    let blobs = || document.children().filter(|child| child.kind == ChildKind::Blob);
    // The config comes first.
    for blob in [blobs().next(), blobs().last()].into_iter().flatten() {
        remember(edge, &blob.descriptor.digest, true);
    }
    memory::remember_kept_blob(&manifest.metadata.digest, true, HERE_SECONDS);
}

/// Marks a blob in KV as stored in the bucket. KV accepts one write per key and second, so another request may have
/// been first.
pub(super) async fn note(kv: &Kv, digest: &Digest, seconds: u64) -> worker::Result<()> {
    let key = composed_blob_key(digest).to_string();
    if let Err(error) = kv.put_plain_bytes(&key, b"", seconds).await
        && !matches!(kv.text(&key).await, Ok(Some(_)))
    {
        return Err(error);
    }
    memory::remember_kept_blob(digest, true, HERE_SECONDS);
    Ok(())
}

/// Whether there are composed blobs, and at another place than others.
fn is_needed(edge: &Edge) -> bool {
    edge.config.compose
        && matches!(edge.config.blobs, BlobOrigin::Backend(_))
        && edge.env.bucket(BUCKET).is_ok()
}

fn remember(edge: &Edge, digest: &Digest, is_here: bool) {
    memory::remember_kept_blob(digest, is_here, memory_seconds(is_here));
    let value = if is_here { b"1" } else { b"0" };
    location::keep(edge, &path(digest), value.to_vec(), seconds(is_here));
}

fn seconds(is_here: bool) -> u64 {
    if is_here { HERE_SECONDS } else { ELSEWHERE_SECONDS }
}

/// How long an isolate remembers it. Another isolate, which composes the image, can correct the location's memory only.
fn memory_seconds(is_here: bool) -> u64 {
    if is_here { HERE_SECONDS } else { ELSEWHERE_SECONDS / 60 }
}

fn path(digest: &Digest) -> String {
    format!("kept/{}", digest.hex())
}
