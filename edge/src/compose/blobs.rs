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
    oci::{digest::Digest, endpoint::Method},
};
use std::cell::RefCell;
use std::collections::HashSet;
use std::thread::LocalKey;
use worker::{Bucket, Env, Request, RequestInit, console_warn, js_sys::Uint8Array};

/// Lifetime in seconds of a URL for storing a blob. It is used at once.
const PUT_SECONDS: u64 = 60;
/// How many stored blobs an isolate remembers.
const MAX_NOTED: usize = 1024;
/// After which times it is looked whether another isolate has stored what the bucket refused, in milliseconds.
const LOOKS_MILLIS: [u64; 3] = [50, 250, 1_000];
/// How many blobs one request marks. It may send 50 requests in all on the free plan, and each blob takes two.
const MAX_MARKED: usize = 16;

thread_local! {
    /// Blobs that are known to be marked in KV.
    static NOTED: RefCell<HashSet<Digest>> = RefCell::default();
    /// Blobs that this isolate has marked in the bucket.
    static MARKED: RefCell<HashSet<Digest>> = RefCell::default();
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
            BlobOrigin::Backend(_) | BlobOrigin::Public(_) => {
                Place::Noted(bucket()?, Kv::bound(env, kv_store::BINDING)?)
            }
        };
        Some(Self { place, seconds: config.manifest_ttl_seconds })
    }

    /// Stores the blob. Returns whether clients will find it.
    pub(super) async fn keep(&self, blob: SmallBlob) -> bool {
        let SmallBlob { digest, bytes } = blob;
        logged(self.put(&digest, bytes).await).is_some()
    }

    async fn put(&self, digest: &Digest, bytes: Vec<u8>) -> worker::Result<()> {
        // First marks the blob as one that the edge needs. Otherwise the backend's garbage collection might delete it.
        self.mark(digest).await?;
        let key = blob_key(digest);
        match &self.place {
            Place::Bucket(bucket) | Place::Noted(bucket, _) => {
                if bucket.head(&key).await?.is_none() {
                    put(bucket, &key, bytes).await?;
                }
            }
            Place::Signed(bucket) => {
                if !is_in(bucket, &key).await? {
                    send(bucket, &key, &bytes).await?;
                }
            }
        }
        match &self.place {
            Place::Noted(_, kv) => note(kv, digest, self.seconds).await,
            Place::Bucket(_) | Place::Signed(_) => Ok(()),
        }
    }

    /// Says that an image of the edge needs a blob, unless that was said not long ago.
    async fn mark(&self, digest: &Digest) -> worker::Result<()> {
        let key = composed_key(digest);
        match &self.place {
            Place::Bucket(bucket) | Place::Noted(bucket, _) => {
                let marker = bucket.head(&key).await?;
                let age = marker.map(|marker| clock::now_millis().saturating_sub(marker.uploaded().as_millis()));
                if age.is_none_or(|age| age / 1000 >= self.seconds / 2) {
                    put(bucket, &key, Vec::new()).await?;
                }
            }
            Place::Signed(bucket) => send(bucket, &key, &[]).await?,
        }
        Ok(())
    }

    /// Says that an image of the edge goes on needing these blobs. Returns whether that is said of all of them. If there
    /// are many, this takes several calls.
    pub(super) async fn hold(&self, blobs: &[Digest]) -> bool {
        let is_marked = |digest: &&Digest| MARKED.with_borrow(|marked| marked.contains(digest));
        let todo: Vec<&Digest> = blobs.iter().filter(|digest| !is_marked(digest)).collect();
        for digest in todo.iter().take(MAX_MARKED) {
            if logged(self.mark(digest).await).is_none() {
                return false;
            }
            remember(&MARKED, digest);
        }
        todo.len() <= MAX_MARKED
    }
}

fn logged(result: worker::Result<()>) -> Option<()> {
    result
        .map_err(|error| {
            let line = serde_json::json!({ "message": "a composed blob could not be stored", "error": error.to_string() });
            console_warn!("{line}");
        })
        .ok()
}

/// Stores an object whose content follows from its key. R2 takes one write per key and second. If it refuses this one,
/// another isolate has been first with the same content.
async fn put(bucket: &Bucket, key: &str, bytes: Vec<u8>) -> worker::Result<()> {
    let Err(error) = bucket.put(key, bytes).execute().await else { return Ok(()) };
    for millis in LOOKS_MILLIS {
        backend::sleep(millis).await;
        if bucket.head(key).await?.is_some() {
            return Ok(());
        }
    }
    Err(error)
}

/// Like [`put`], by a signed URL.
async fn send(bucket: &SignedBucket, key: &str, bytes: &[u8]) -> worker::Result<()> {
    let url = bucket.presign_put(key, now(), PUT_SECONDS);
    let mut init = RequestInit::new();
    init.with_method(worker::Method::Put).with_body(Some(Uint8Array::from(bytes).into()));
    let response = backend::storage(Request::new_with_init(&url, &init)?).await?;
    let status = response.status_code();
    if (200..300).contains(&status) || (status == 429 && is_in(bucket, key).await?) {
        return Ok(());
    }
    Err(worker::Error::RustError(format!("the bucket answers {status}")))
}

/// Whether the bucket has an object.
async fn is_in(bucket: &SignedBucket, key: &str) -> worker::Result<bool> {
    let url = bucket.presign(Method::Head, key, now(), PUT_SECONDS);
    let request = Request::new(&url, worker::Method::Head)?;
    Ok(backend::storage(request).await?.status_code() == 200)
}

fn now() -> i64 {
    i64::try_from(clock::now()).expect("clocks stay within i64")
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
    remember(&NOTED, digest);
    Ok(())
}

fn remember(table: &'static LocalKey<RefCell<HashSet<Digest>>>, digest: &Digest) {
    table.with_borrow_mut(|known| {
        if known.len() >= MAX_NOTED {
            known.clear();
        }
        known.insert(*digest);
    });
}

/// Whether a blob was composed, and must be read from the bucket although other blobs are elsewhere.
pub(crate) async fn is_kept_here(edge: &Edge, digest: &Digest) -> bool {
    let Some(Shelf { place: Place::Noted(_, kv), .. }) = Shelf::of(&edge.env, &edge.config) else {
        return false;
    };
    if NOTED.with_borrow(|noted| noted.contains(digest)) {
        return true;
    }
    let noted = matches!(kv.text(&composed_blob_key(digest).to_string()).await, Ok(Some(_)));
    if noted {
        remember(&NOTED, digest);
    }
    noted
}
