//! `/v2/<name>/blobs/<digest>`: a redirect to where the blob lies, or the blob out of R2.
//!
//! HEAD is always answered here: a redirect of it to a URL that is signed for GET would fail.

use crate::{
    Failure, answer::Answer, backend, blob_cache, blob_location, compose, config::Access, edge::Edge, lost,
    repository, subrequest,
};
use firn_shared::{
    link::object_key::blob_key,
    naming::image_name::ImageName,
    oci::{
        digest::Digest,
        endpoint::Method,
        error::{ErrorCode, OciError},
        repository_name::RepositoryName,
        request::Request,
        respond::{self, Body, CacheScope, Response},
    },
};
use std::rc::Rc;
use worker::{Object, ObjectBody, Range, ResponseBody};

/// Answers a request for a blob. One that is gone, of an image that is answered for here, is made again.
pub(crate) async fn blobs(
    edge: &Rc<Edge>,
    request: &Request<'_>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Answer, Failure> {
    let answer = stored(edge, request, name, digest).await;
    match answer {
        Err(Failure::Registry(error)) if is_missing(&error) && lost::recover(edge, name, digest).await => {
            stored(edge, request, name, digest).await
        }
        answer => answer,
    }
}

async fn stored(
    edge: &Rc<Edge>,
    request: &Request<'_>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Answer, Failure> {
    if let Access::Private(_) = edge.config.access {
        repository::check(edge, &ImageName::of(name)?, digest, ErrorCode::BlobUnknown).await?;
    }
    // A client that has it is believed: nothing is asked for that.
    if let Some(response) = respond::known_blob(request, digest, scope(edge)) {
        return Ok(response.into());
    }
    if compose::kept::is_kept_here(edge, digest).await {
        return from_r2(edge, request, digest).await;
    }
    let Some(location) = blob_location::locate(&edge.config, request.method, name, digest) else {
        return from_r2(edge, request, digest).await;
    };
    Ok(match request.method {
        Method::Head => {
            let size = size_at(&location.url).await?;
            respond::blob(request, digest, size, scope(edge)).into()
        }
        Method::Get => {
            let scope = match scope(edge) {
                CacheScope::Public => location.scope,
                CacheScope::Private => CacheScope::Private,
            };
            respond::blob_elsewhere(digest, location.url, location.seconds, scope).into()
        }
    })
}

/// Which caches may keep blobs.
fn scope(edge: &Edge) -> CacheScope {
    match edge.config.access {
        Access::Public => CacheScope::Public,
        Access::Private(_) => CacheScope::Private,
    }
}

/// Asks where the blob lies how long it is, in bytes.
async fn size_at(url: &str) -> Result<u64, Failure> {
    let unreachable = || {
        OciError::new(ErrorCode::Unavailable, "the place where blobs are stored cannot be reached")
            .retry_after(5)
    };
    let request = subrequest::to_storage("HEAD", url, None)?;
    let response = backend::storage(request).await.map_err(|_| unreachable())?;
    let length = response.headers().get("content-length")?;
    match (response.status_code(), length.and_then(|length| length.parse().ok())) {
        (200, Some(size)) => Ok(size),
        (404, _) => Err(unknown().into()),
        _ => Err(unreachable().into()),
    }
}

async fn from_r2(edge: &Rc<Edge>, request: &Request<'_>, digest: &Digest) -> Result<Answer, Failure> {
    if request.takes_whole(digest)
        && let Some(blob) = blob_cache::get(edge, digest).await
    {
        return Ok(Answer::with_stream(respond::blob(request, digest, blob.size, scope(edge)), blob.body));
    }
    let bucket = edge.env.bucket(blob_location::BUCKET).map_err(|_| {
        OciError::new(
            ErrorCode::Internal,
            "the edge is not configured: FIRN_BLOBS=r2 needs the R2 binding BLOBS",
        )
    })?;
    let failing = |_| OciError::new(ErrorCode::Unavailable, "the bucket cannot be read now").retry_after(5);
    let key = blob_key(digest);
    // The size decides what a range means, so it is asked for first; otherwise one question is enough.
    let mut object = match request.takes_whole(digest) {
        true => bucket.get(key.as_str()).execute().await.map_err(failing)?,
        false => bucket.head(key.as_str()).await.map_err(failing)?,
    };
    let size = object.as_ref().ok_or_else(unknown)?.size();
    let response = respond::blob(request, digest, size, scope(edge));
    let Body::Blob { range, .. } = &response.body else { return Ok(response.into()) };
    if !request.takes_whole(digest) {
        let get = bucket.get(key.as_str());
        let get = match range {
            Some(part) => {
                get.range(Range::OffsetWithLength { offset: part.start, length: part.end - part.start })
            }
            None => get,
        };
        object = get.execute().await.map_err(failing)?;
    } else {
        blob_cache::keep(edge, digest, size);
    }
    stream(response, object.as_ref().and_then(Object::body).ok_or_else(unknown)?)
}

/// Hands R2's own stream to the runtime: the bytes never enter the Worker.
fn stream(mut response: Response, body: ObjectBody<'_>) -> Result<Answer, Failure> {
    Ok(match body.response_body()? {
        ResponseBody::Stream(stream) => Answer::with_stream(response, stream),
        ResponseBody::Body(bytes) => {
            response.body = Body::Bytes(bytes);
            response.into()
        }
        ResponseBody::Empty => response.into(),
    })
}

/// Whether it is the blob that is missing, and not the client's right to have it.
fn is_missing(error: &OciError) -> bool {
    *error == unknown()
}

fn unknown() -> OciError {
    OciError::new(ErrorCode::BlobUnknown, "there is no such blob")
}
