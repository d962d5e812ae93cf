//! `/v2/<name>/blobs/<digest>`: a redirect to where the blob lies, or the blob out of R2.
//!
//! HEAD is always answered here: a redirect of it to a URL that is signed for GET would fail.

use crate::{
    Failure, answer::Answer, backend, blob_location, compose, config::Access, edge::Edge, lost, repository,
};
use firn_shared::{
    link::object_key::blob_key,
    naming::image_name::ImageName,
    oci::{
        byte_range::{ByteRange, range_that_counts},
        digest::Digest,
        endpoint::Method,
        entity_tag::{entity_tag, is_known},
        error::{ErrorCode, OciError},
        media_type::BLOB,
        repository_name::RepositoryName,
    },
};
use std::rc::Rc;
use worker::{Bucket, Range, Request, ResponseBody};

/// Answers a request for a blob. One that is gone, of an image that is answered for here, is made again.
pub(crate) async fn blobs(
    edge: &Rc<Edge>,
    method: Method,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Answer, Failure> {
    let answer = stored(edge, method, name, digest).await;
    match answer {
        Err(Failure::Registry(error)) if is_missing(&error) && lost::recover(edge, name, digest).await => {
            stored(edge, method, name, digest).await
        }
        answer => answer,
    }
}

async fn stored(
    edge: &Edge,
    method: Method,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Answer, Failure> {
    if let Access::Private(_) = edge.config.access {
        repository::check(edge, &ImageName::of(name)?, digest, ErrorCode::BlobUnknown).await?;
    }
    if edge.header("if-none-match").is_some_and(|header| is_known(&header, digest)) {
        return Ok(blob(edge, 304, digest));
    }
    if compose::is_kept_here(edge, digest).await {
        return from_r2(edge, method, digest).await;
    }
    let Some(location) = blob_location::locate(&edge.config, method, name, digest) else {
        return from_r2(edge, method, digest).await;
    };
    match method {
        Method::Head => head(edge, &location.url, digest).await,
        Method::Get => Ok(Answer::new(307)
            .with("location", location.url)
            .with("docker-content-digest", digest.to_string())
            .with("cache-control", format!("private, max-age={}", location.seconds))
            .with("content-length", "0")),
    }
}

/// An answer about a blob. Blobs never change, and must not be compressed on the way.
fn blob(edge: &Edge, status: u16, digest: &Digest) -> Answer {
    let cache_control = match edge.config.access {
        Access::Public => "public, max-age=31536000, immutable, no-transform",
        Access::Private(_) => "private, max-age=31536000, immutable, no-transform",
    };
    Answer::new(status)
        .with("docker-content-digest", digest.to_string())
        .with("etag", entity_tag(digest))
        .with("accept-ranges", "bytes")
        .with("cache-control", cache_control)
}

/// Asks where the blob lies how long it is.
async fn head(edge: &Edge, url: &str, digest: &Digest) -> Result<Answer, Failure> {
    let unreachable = || {
        OciError::new(ErrorCode::Unavailable, "the place where blobs are stored cannot be reached")
            .retry_after(5)
    };
    let request = Request::new(url, worker::Method::Head)?;
    let response = backend::storage(request).await.map_err(|_| unreachable())?;
    match (response.status_code(), response.headers().get("content-length")?) {
        (200, Some(length)) => {
            Ok(blob(edge, 200, digest).with("content-type", BLOB).with("content-length", length))
        }
        (404, _) => Err(unknown().into()),
        _ => Err(unreachable().into()),
    }
}

async fn from_r2(edge: &Edge, method: Method, digest: &Digest) -> Result<Answer, Failure> {
    let bucket = edge.env.bucket(blob_location::BUCKET).map_err(|_| {
        OciError::new(
            ErrorCode::Internal,
            "the edge is not configured: FIRN_BLOBS=r2 needs the R2 binding BLOBS",
        )
    })?;
    let failing = |_| OciError::new(ErrorCode::Unavailable, "the bucket cannot be read now").retry_after(5);
    let key = blob_key(digest);
    let (range, if_range) = (edge.header("range"), edge.header("if-range"));
    let range = range_that_counts(method, range.as_deref(), if_range.as_deref(), digest);
    // The size decides what a range means, so it is asked for first; otherwise one question is enough.
    if method == Method::Get && range.is_none() {
        let object = bucket.get(key).execute().await.map_err(failing)?.ok_or_else(unknown)?;
        return stream(blob(edge, 200, digest), &object, object.size());
    }
    let size = bucket.head(key.as_str()).await.map_err(failing)?.ok_or_else(unknown)?.size();
    let Some(range) = range else {
        return Ok(blob(edge, 200, digest)
            .with("content-type", BLOB)
            .with("content-length", size.to_string()));
    };
    let range = ByteRange::parse(Some(range), size);
    let content_range = range.content_range(size);
    match range {
        ByteRange::Unsatisfiable => {
            Ok(blob(edge, 416, digest).with_some("content-range", content_range).bytes(method, Vec::new()))
        }
        ByteRange::Whole => get(&bucket, &key, None, blob(edge, 200, digest), size).await,
        ByteRange::Part { start, end } => {
            let length = end - start + 1;
            let range = Range::OffsetWithLength { offset: start, length };
            let answer = blob(edge, 206, digest).with_some("content-range", content_range);
            get(&bucket, &key, Some(range), answer, length).await
        }
    }
}

async fn get(
    bucket: &Bucket,
    key: &str,
    range: Option<Range>,
    answer: Answer,
    length: u64,
) -> Result<Answer, Failure> {
    let request = match range {
        Some(range) => bucket.get(key).range(range),
        None => bucket.get(key),
    };
    let failing = |_| OciError::new(ErrorCode::Unavailable, "the bucket cannot be read now").retry_after(5);
    let object = request.execute().await.map_err(failing)?.ok_or_else(unknown)?;
    stream(answer, &object, length)
}

/// Hands R2's own stream to the runtime: the bytes never enter the Worker.
fn stream(answer: Answer, object: &worker::Object, length: u64) -> Result<Answer, Failure> {
    let answer = answer.with("content-type", BLOB).with("content-length", length.to_string());
    Ok(match object.body().ok_or_else(unknown)?.response_body()? {
        ResponseBody::Stream(stream) => answer.stream(stream),
        ResponseBody::Body(bytes) => answer.bytes(Method::Get, bytes),
        ResponseBody::Empty => answer,
    })
}

/// Whether it is the blob that is missing, and not the client's right to have it.
fn is_missing(error: &OciError) -> bool {
    *error == unknown()
}

fn unknown() -> OciError {
    OciError::new(ErrorCode::BlobUnknown, "there is no such blob")
}
