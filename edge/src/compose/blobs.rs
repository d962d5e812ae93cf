//! Where the blobs of composed images are kept: symlink layers and configs, a few kilobytes each.
//!
//! | `FIRN_BLOBS` | written | found |
//! |---|---|---|
//! | `r2` | to the bucket bound as `BLOBS` | as every blob |
//! | `presigned` | to the S3 bucket, by a URL signed for PUT | as every blob |
//! | `backend`, `public` | to the bucket bound as `BLOBS`, and noted in KV | in that bucket, because of the note |
//!
//! Without a place for them nothing is composed.

use crate::{
    backend,
    blob_location::BUCKET,
    clock,
    config::{Blobs, Config},
    edge::Edge,
    kv::Kv,
    store,
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

/// How long a URL for storing a blob holds, in seconds; it is used at once.
const PUT_SECONDS: u64 = 60;
/// How many blobs an isolate remembers to have stored.
const MAX_NOTED: usize = 1024;

thread_local! {
    /// Blobs that a note is known of.
    static NOTED: RefCell<HashSet<Digest>> = RefCell::default();
}

/// A place to keep blobs in.
pub(super) enum Shelf {
    /// The bucket that all blobs are read from.
    Bucket(Bucket),
    /// A bucket that only blobs with a note in KV are read from.
    Noted(Bucket, Kv, u64),
    /// The bucket that presigned URLs lead to.
    Signed(SignedBucket),
}

impl Shelf {
    /// The place that this deployment has.
    pub(super) fn of(env: &Env, config: &Config) -> Option<Self> {
        if !config.compose {
            return None;
        }
        let bucket = || env.bucket(BUCKET).ok();
        match &config.blobs {
            Blobs::R2 => Some(Self::Bucket(bucket()?)),
            Blobs::Presigned { bucket, .. } => Some(Self::Signed(bucket.clone())),
            Blobs::Backend(_) | Blobs::Public(_) => {
                Some(Self::Noted(bucket()?, Kv::bound(env, store::BINDING)?, config.manifest_ttl_seconds))
            }
        }
    }

    /// Whether the blob is stored now where clients will find it.
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

/// Says first that the blob is the edge's own, or the backend's garbage collection might not leave it alone.
async fn put(bucket: &Bucket, digest: &Digest, bytes: Vec<u8>) -> worker::Result<()> {
    bucket.put(composed_key(digest), Vec::new()).execute().await?;
    bucket.put(blob_key(digest), bytes).execute().await.map(|_| ())
}

/// The same by signed URLs.
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

/// Notes that a blob is in the bucket. KV takes one write a second for a key: somebody else may have been first.
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

/// Whether a blob must be read from the bucket although others are elsewhere, because it was composed.
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
