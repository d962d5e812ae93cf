//! Storage for the blobs of composed images: symlink layers and configs of a few kilobytes each.
//!
//! | `FIRN_BLOBS` | written | found |
//! |---|---|---|
//! | `r2` | to the bucket bound as `BLOBS` | like every blob |
//! | `presigned` | to the S3 bucket, by a URL signed for PUT | like every blob |
//! | `backend`, `public` | to the bucket bound as `BLOBS`, and marked in KV | in that bucket, because of the mark |
//!
//! Without such storage, no image is composed.

use crate::{
    backend,
    blob_location::BUCKET,
    clock,
    config::{BlobOrigin, Config},
    edge::Edge,
    kv::Kv,
    kv_store,
};
use firn_shared::{
    image::SmallBlob,
    link::{
        edge_cache::composed_blob_key,
        object_key::{blob_key, composed_key},
        presigned_url::SignedBucket,
    },
    oci::digest::Digest,
};
use std::cell::RefCell;
use std::collections::HashSet;
use worker::{Bucket, Env, Request, RequestInit, console_warn, js_sys::Uint8Array};

/// Lifetime in seconds of a URL for storing a blob. It is used at once.
const PUT_SECONDS: u64 = 60;
/// How many stored blobs an isolate remembers.
const MAX_NOTED: usize = 1024;

thread_local! {
    /// Blobs that are known to be marked in KV.
    static NOTED: RefCell<HashSet<Digest>> = RefCell::default();
}

/// Storage for composed blobs.
pub(super) enum Shelf {
    /// The bucket from which all blobs are read.
    Bucket(Bucket),
    /// A bucket from which only blobs marked in KV are read.
    Noted(Bucket, Kv, u64),
    /// The bucket that presigned URLs lead to.
    Signed(SignedBucket),
}

impl Shelf {
    /// The storage of this deployment.
    pub(super) fn of(env: &Env, config: &Config) -> Option<Self> {
        if !config.compose {
            return None;
        }
        let bucket = || env.bucket(BUCKET).ok();
        match &config.blobs {
            BlobOrigin::R2 => Some(Self::Bucket(bucket()?)),
            BlobOrigin::Presigned { bucket, .. } => Some(Self::Signed(bucket.clone())),
            BlobOrigin::Backend(_) | BlobOrigin::Public(_) => {
                Some(Self::Noted(bucket()?, Kv::bound(env, kv_store::BINDING)?, config.manifest_ttl_seconds))
            }
        }
    }

    /// Stores the blob. Returns whether clients will find it.
    pub(super) async fn keep(&self, blob: SmallBlob) -> bool {
        let SmallBlob { digest, bytes } = blob;
        let result = match self {
            Self::Bucket(bucket) => put(bucket, &digest, bytes).await,
            Self::Signed(bucket) => put_signed(bucket, &digest, bytes).await,
            Self::Noted(bucket, kv, seconds) => match put(bucket, &digest, bytes).await {
                Ok(()) => note(kv, &digest, *seconds).await,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = &result {
            let line = serde_json::json!({ "message": "a composed blob could not be stored", "error": error.to_string() });
            console_warn!("{line}");
        }
        result.is_ok()
    }
}

/// First marks the blob as the edge's own. Otherwise the backend's garbage collection might delete it.
async fn put(bucket: &Bucket, digest: &Digest, bytes: Vec<u8>) -> worker::Result<()> {
    bucket.put(composed_key(digest), Vec::new()).execute().await?;
    bucket.put(blob_key(digest), bytes).execute().await.map(|_| ())
}

/// Like [`put`], by signed URLs.
async fn put_signed(bucket: &SignedBucket, digest: &Digest, bytes: Vec<u8>) -> worker::Result<()> {
    send(bucket, &composed_key(digest), &[]).await?;
    send(bucket, &blob_key(digest), &bytes).await
}

async fn send(bucket: &SignedBucket, key: &str, bytes: &[u8]) -> worker::Result<()> {
    let now = i64::try_from(clock::now()).expect("clocks stay within i64");
    let url = bucket.presign_put(key, now, PUT_SECONDS);
    let mut init = RequestInit::new();
    init.with_method(worker::Method::Put).with_body(Some(Uint8Array::from(bytes).into()));
    let response = backend::storage(Request::new_with_init(&url, &init)?).await?;
    match response.status_code() {
        200..300 => Ok(()),
        status => Err(worker::Error::RustError(format!("the bucket answers {status}"))),
    }
}

/// Marks a blob in KV as stored in the bucket. KV accepts one write per key and second, so another request may have
/// been first.
async fn note(kv: &Kv, digest: &Digest, seconds: u64) -> worker::Result<()> {
    let key = composed_blob_key(digest).to_string();
    if let Err(error) = kv.put_plain_bytes(&key, b"", seconds).await
        && !matches!(kv.text(&key).await, Ok(Some(_)))
    {
        return Err(error);
    }
    remember(digest);
    Ok(())
}

fn remember(digest: &Digest) {
    NOTED.with_borrow_mut(|noted| {
        if noted.len() >= MAX_NOTED {
            noted.clear();
        }
        noted.insert(*digest);
    });
}

/// Whether a blob was composed, and must be read from the bucket although other blobs are elsewhere.
pub(crate) async fn is_kept_here(edge: &Edge, digest: &Digest) -> bool {
    let Some(Shelf::Noted(_, kv, _)) = Shelf::of(&edge.env, &edge.config) else { return false };
    if NOTED.with_borrow(|noted| noted.contains(digest)) {
        return true;
    }
    let noted = matches!(kv.text(&composed_blob_key(digest).to_string()).await, Ok(Some(_)));
    if noted {
        remember(digest);
    }
    noted
}
