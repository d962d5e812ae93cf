//! Storage for the blobs of composed images: symlink layers and configs of a few kilobytes each.
//!
//! | `FIRN_BLOBS` | written | found |
//! |---|---|---|
//! | `r2` | to the bucket bound as `BLOBS` | like every blob |
//! | `public` | to the bucket bound as `BLOBS`, which is the public one | like every blob |
//! | `presigned` | to the S3 bucket, by a URL signed for PUT | like every blob |
//! | `backend` | to the bucket bound as `BLOBS`, and marked in KV | in that bucket, because of the mark ([`kept`]) |
//!
//! Without such storage, no image is composed.

use super::kept;
use crate::{
    backend,
    blob_location::BUCKET,
    clock,
    config::{BlobOrigin, Config},
    kv::Kv,
    kv_store,
};
use firn_shared::{
    image::SmallBlob,
    link::{
        base_url::BaseUrl,
        object_key::{blob_key, composed_key},
        presigned_url::SignedBucket,
    },
    oci::digest::Digest,
};
use std::cell::Cell;
use worker::{Bucket, Env, Method, Request, RequestInit, console_warn, js_sys::Uint8Array};

/// Lifetime in seconds of a URL for storing a blob. It is used at once.
const PUT_SECONDS: u64 = 60;

thread_local! {
    /// Whether a composed blob was found where clients look for it.
    static PUBLISHED: Cell<bool> = const { Cell::new(false) };
}

/// Storage for composed blobs.
pub(super) enum Shelf {
    /// The bucket from which all blobs are read.
    Bucket(Bucket),
    /// The bucket behind this URL. Its path is the prefix of the keys.
    Public(Bucket, BaseUrl),
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
            BlobOrigin::Public(url) => Some(Self::Public(bucket()?, url.clone())),
            BlobOrigin::Backend(_) => {
                Some(Self::Noted(bucket()?, Kv::bound(env, kv_store::BINDING)?, config.manifest_ttl_seconds))
            }
        }
    }

    /// Stores the blob. Returns whether clients will find it.
    pub(super) async fn keep(&self, blob: SmallBlob) -> bool {
        let SmallBlob { digest, bytes } = blob;
        let result = match self {
            Self::Bucket(bucket) => put(bucket, "", &digest, bytes).await,
            Self::Public(bucket, url) => publish(bucket, url, &digest, bytes).await,
            Self::Signed(bucket) => put_signed(bucket, &digest, bytes).await,
            Self::Noted(bucket, kv, seconds) => match put(bucket, "", &digest, bytes).await {
                Ok(()) => kept::note(kv, &digest, *seconds).await,
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
async fn put(bucket: &Bucket, prefix: &str, digest: &Digest, bytes: Vec<u8>) -> worker::Result<()> {
    bucket.put(format!("{prefix}{}", composed_key(digest)), Vec::new()).execute().await?;
    bucket.put(format!("{prefix}{}", blob_key(digest)), bytes).execute().await.map(|_| ())
}

/// Like [`put`], to the bucket behind a public URL. The first time, makes sure that it is that bucket.
async fn publish(bucket: &Bucket, url: &BaseUrl, digest: &Digest, bytes: Vec<u8>) -> worker::Result<()> {
    let prefix = url.path().strip_prefix('/').map(|path| format!("{path}/")).unwrap_or_default();
    put(bucket, &prefix, digest, bytes).await?;
    if !PUBLISHED.get() {
        let request = Request::new(&format!("{url}/{}", blob_key(digest)), Method::Head)?;
        // Whoever cannot be asked now says nothing about the bucket.
        if matches!(backend::storage(request).await, Ok(response) if response.status_code() == 404) {
            let problem = "BLOBS is not the bucket that clients reach at FIRN_BLOBS_URL";
            return Err(worker::Error::RustError(problem.into()));
        }
        PUBLISHED.set(true);
    }
    Ok(())
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
    init.with_method(Method::Put).with_body(Some(Uint8Array::from(bytes).into()));
    let response = backend::storage(Request::new_with_init(&url, &init)?).await?;
    match response.status_code() {
        200..300 => Ok(()),
        status => Err(worker::Error::RustError(format!("the bucket answers {status}"))),
    }
}
