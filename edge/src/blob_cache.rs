//! Blobs of the bucket in the Cache API of a location. Reads of R2 are billed, those of the Cache API are not: with it, a
//! pull of many layers costs half as much.
//!
//! The Worker has checked the client before it looks here, so this is right for private registries, too.

use crate::{answer::Answer, blob_location, cache, edge::Edge, memory};
use firn_shared::{
    link::object_key::blob_key,
    oci::{digest::Digest, respond::Response},
};
use std::rc::Rc;
use worker::{Error, ResponseBody, web_sys::ReadableStream};

/// How long a blob is kept, in seconds: a day.
const SECONDS: u64 = 24 * 3600;
/// The longest blob that is kept, in bytes. The runtime gives work after an answer 30 s.
const MAX_BYTES: u64 = 64 << 20;
/// The header that says how long the blob is, in bytes: the runtime may send it without a length.
const SIZE: &str = "x-firn-size";

/// A blob.
pub(crate) struct CachedBlob {
    /// Its length in bytes.
    pub(crate) size: u64,
    /// The runtime's own stream.
    pub(crate) body: ReadableStream,
}

/// The blob, if this location has it.
pub(crate) async fn get(edge: &Edge, digest: &Digest) -> Option<CachedBlob> {
    if !edge.config.cache_api {
        return None;
    }
    let found = cache::find(&url(edge, digest)).await?;
    let size = found.headers().get(SIZE).ok()??.parse().ok()?;
    Some(CachedBlob { size, body: found.body()? })
}

/// Keeps a blob of this length that was read from the bucket, after the answer. It is read a second time, because a
/// stream for two readers waits in memory for the slower one.
pub(crate) fn keep(edge: &Rc<Edge>, digest: &Digest, size: u64) {
    let url = url(edge, digest);
    // There, the Cache API keeps nothing.
    let is_in_vain = edge.origin().ends_with(".workers.dev");
    if edge.config.cache_api && !is_in_vain && size <= MAX_BYTES && memory::begin_revalidation(&url) {
        let (copy, digest) = (edge.clone(), *digest);
        // If this fails, the next client gets it from the bucket again.
        edge.later(async move { drop(put(&copy, &url, &digest).await) });
    }
}

async fn put(edge: &Edge, url: &str, digest: &Digest) -> worker::Result<()> {
    let gone = || Error::RustError("the blob is gone".into());
    let bucket = edge.env.bucket(blob_location::BUCKET)?;
    let object = bucket.get(blob_key(digest).as_str()).execute().await?.ok_or_else(gone)?;
    let response = Response::new(200)
        .with("cache-control", format!("max-age={SECONDS}"))
        .with("content-length", object.size().to_string())
        .with(SIZE, object.size().to_string());
    let ResponseBody::Stream(body) = object.body().ok_or_else(gone)?.response_body()? else { return Ok(()) };
    cache::put(url, &Answer::with_stream(response, body).into_response()?).await
}

fn url(edge: &Edge, digest: &Digest) -> String {
    cache::url(edge, &format!("blob/{}", digest.hex()))
}
