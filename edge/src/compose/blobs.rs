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
    kv_store, memory, subrequest,
};
use firn_shared::{
    image::SmallBlob,
    link::{
        base_url::BaseUrl,
        object_key::{blob_key, composed_key},
        presigned_url::SignedBucket,
    },
    oci::{digest::Digest, endpoint::Method},
};
use std::cell::Cell;
use worker::{
    Bucket, Env, console_warn,
    js_sys::{Date, Uint8Array},
};

/// Lifetime in seconds of a URL for storing a blob. It is used at once.
const PUT_SECONDS: u64 = 60;
/// After which times it is looked whether another isolate has stored what the bucket refused, in milliseconds.
const LOOKS_MILLIS: [u64; 3] = [50, 250, 1_000];
/// How many blobs one request marks. It may send 50 requests in all on the free plan, and each blob takes two.
const MAX_MARKED: usize = 16;

thread_local! {
    /// Whether a composed blob was found where clients look for it.
    static PUBLISHED: Cell<bool> = const { Cell::new(false) };
}

/// Storage for composed blobs.
pub(super) struct Shelf {
    place: Place,
    /// How long manifests are kept, in seconds.
    seconds: u64,
}

enum Place {
    /// The bucket from which all blobs are read.
    Bucket(Bucket),
    /// The bucket behind this URL. Its path is the prefix of the keys.
    Public(Bucket, BaseUrl),
    /// A bucket from which only blobs marked in KV are read.
    Noted(Bucket, Kv),
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
        let place = match &config.blobs {
            BlobOrigin::R2 => Place::Bucket(bucket()?),
            BlobOrigin::Presigned { bucket, .. } => Place::Signed(bucket.clone()),
            BlobOrigin::Public(url) => Place::Public(bucket()?, url.clone()),
            BlobOrigin::Backend(_) => Place::Noted(bucket()?, Kv::bound(env, kv_store::BINDING)?),
        };
        Some(Self { place, seconds: config.manifest_ttl_seconds })
    }

    /// Stores the blob. Returns whether clients will find it.
    pub(super) async fn keep(&self, blob: SmallBlob) -> bool {
        let SmallBlob { digest, bytes } = blob;
        is_done(self.store(&digest, &bytes).await)
    }

    async fn store(&self, digest: &Digest, bytes: &[u8]) -> worker::Result<()> {
        // First marks the blob as one that the edge needs. Otherwise the backend's garbage collection might delete it.
        self.mark(digest).await?;
        let key = blob_key(digest);
        if self.age_millis(&key).await?.is_none() {
            self.put(&key, bytes).await?;
        }
        match &self.place {
            Place::Bucket(_) | Place::Signed(_) => Ok(()),
            Place::Noted(_, kv) => kept::note(kv, digest, self.seconds).await,
            Place::Public(_, url) => check_url(url, &key).await,
        }
    }

    /// Says that an image of the edge needs a blob, unless that was said not long ago.
    async fn mark(&self, digest: &Digest) -> worker::Result<()> {
        let key = composed_key(digest);
        match self.age_millis(&key).await? {
            Some(age) if age / 1000 < self.seconds / 2 => Ok(()),
            _ => self.put(&key, &[]).await,
        }
    }

    /// Says that an image of the edge goes on needing these blobs, from the one at `begun` on. If there are many, this
    /// takes several calls. Returns where the next one begins, and the number of blobs if that was the last one. None if
    /// it could not be said.
    pub(super) async fn hold(&self, blobs: &[Digest], begun: usize) -> Option<usize> {
        let mut todo =
            blobs.iter().enumerate().skip(begun).filter(|(_, digest)| !memory::is_marked_blob(digest));
        for (_, digest) in todo.by_ref().take(MAX_MARKED) {
            if !is_done(self.mark(digest).await) {
                return None;
            }
            memory::mark_blob(digest);
        }
        Some(todo.next().map_or(blobs.len(), |(at, _)| at))
    }

    /// How long ago an object was stored, in milliseconds. None if it was not.
    async fn age_millis(&self, key: &str) -> worker::Result<Option<u64>> {
        let Some((bucket, prefix)) = self.bucket() else { return self.signed_age_millis(key).await };
        let object = bucket.head(format!("{prefix}{key}")).await?;
        Ok(object.map(|object| clock::now_millis().saturating_sub(object.uploaded().as_millis())))
    }

    async fn signed_age_millis(&self, key: &str) -> worker::Result<Option<u64>> {
        let Place::Signed(bucket) = &self.place else { return Ok(None) };
        let url = bucket.presign(Method::Head, key, now(), PUT_SECONDS);
        let response = backend::storage(subrequest::to_storage("HEAD", &url, None)?).await?;
        let modified = response.headers().get("last-modified")?.unwrap_or_default();
        let modified = Date::parse(&modified);
        // What has no time is as old as can be.
        let modified = if modified.is_nan() { 0 } else { modified as u64 };
        Ok((response.status_code() == 200).then(|| clock::now_millis().saturating_sub(modified)))
    }

    /// Stores an object whose content follows from its key. R2 takes one write per key and second. If it refuses this
    /// one, another isolate has been first with the same content.
    async fn put(&self, key: &str, bytes: &[u8]) -> worker::Result<()> {
        let result = match (self.bucket(), &self.place) {
            (Some((bucket, prefix)), _) => {
                bucket.put(format!("{prefix}{key}"), bytes.to_vec()).execute().await.map(drop)
            }
            (None, Place::Signed(bucket)) => send(bucket, key, bytes).await,
            (None, _) => Ok(()),
        };
        let Err(error) = result else { return Ok(()) };
        for millis in LOOKS_MILLIS {
            backend::sleep(millis).await;
            if self.age_millis(key).await?.is_some() {
                return Ok(());
            }
        }
        Err(error)
    }

    /// The bound bucket that blobs are written to, and the prefix of their keys.
    fn bucket(&self) -> Option<(&Bucket, String)> {
        match &self.place {
            Place::Bucket(bucket) | Place::Noted(bucket, _) => Some((bucket, String::new())),
            Place::Public(bucket, url) => {
                let prefix = url.path().strip_prefix('/').map(|path| format!("{path}/"));
                Some((bucket, prefix.unwrap_or_default()))
            }
            Place::Signed(_) => None,
        }
    }
}

/// Whether it succeeded. Logs if it did not.
fn is_done(result: worker::Result<()>) -> bool {
    if let Err(error) = &result {
        let line = serde_json::json!({ "message": "a composed blob could not be stored", "error": error.to_string() });
        console_warn!("{line}");
    }
    result.is_ok()
}

/// Makes sure, the first time, that the bucket is the one that clients reach at this URL.
async fn check_url(url: &BaseUrl, key: &str) -> worker::Result<()> {
    if !PUBLISHED.get() {
        let request = subrequest::to_storage("HEAD", &format!("{url}/{key}"), None)?;
        // Whoever cannot be asked now says nothing about the bucket.
        if matches!(backend::storage(request).await, Ok(response) if response.status_code() == 404) {
            let problem = "BLOBS is not the bucket that clients reach at FIRN_BLOBS_URL";
            return Err(worker::Error::RustError(problem.into()));
        }
        PUBLISHED.set(true);
    }
    Ok(())
}

async fn send(bucket: &SignedBucket, key: &str, bytes: &[u8]) -> worker::Result<()> {
    let url = bucket.presign_put(key, now(), PUT_SECONDS);
    let body = Uint8Array::from(bytes).into();
    let request = subrequest::to_storage("PUT", &url, Some(&body))?;
    let response = backend::storage(request).await?;
    match response.status_code() {
        200..300 => Ok(()),
        status => Err(worker::Error::RustError(format!("the bucket answers {status}"))),
    }
}

fn now() -> i64 {
    i64::try_from(clock::now()).expect("clocks stay within i64")
}
