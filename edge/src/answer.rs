//! Answers as a registry gives them: explicit lengths (HEAD too), digests, entity tags.
//!
//! Bodies are whole byte arrays, for which the runtime keeps `Content-Length`; streams would become chunked.

use crate::{Failure, manifest::Manifest};
use firn_shared::{
    discovery::{NO_REFERRERS, TagsPage},
    endpoint::Method,
    entity_tag::{entity_tag, is_known},
    media_type::{JSON, OCI_INDEX},
    oci_error::{ErrorCode, OciError},
    protocol::{REVISION, SOURCE, Source},
};
use worker::{Response, ResponseBuilder, Result, console_error};

/// The header that says that this is a registry (Docker's "HTTP API V2"; some clients insist on it).
const API_VERSION: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");

/// An answer that begins like all others.
pub(crate) fn builder(status: u16) -> Result<ResponseBuilder> {
    Response::builder().with_status(status).with_header(API_VERSION.0, API_VERSION.1)
}

/// Ends an answer whose body is at hand: a HEAD gets its length alone.
pub(crate) fn finish(builder: ResponseBuilder, method: Method, body: Vec<u8>) -> Result<Response> {
    let builder = builder.with_header("content-length", &body.len().to_string())?;
    Ok(match method {
        Method::Get => builder.fixed(body),
        Method::Head => builder.empty(),
    })
}

fn json(method: Method, body: Vec<u8>) -> Result<Response> {
    finish(builder(200)?.with_header("content-type", JSON)?, method, body)
}

/// Turns a failure into what clients see of it.
pub(crate) fn result(method: Method, result: std::result::Result<Response, Failure>) -> Result<Response> {
    match result {
        Ok(response) => Ok(response),
        Err(Failure::Registry(failure)) => error(method, &failure),
        Err(Failure::Runtime(failure)) => {
            console_error!(
                "{}",
                serde_json::json!({ "message": "runtime error", "error": failure.to_string() })
            );
            error(method, &OciError::new(ErrorCode::Internal, "the edge failed; the operator's log has more"))
        }
    }
}

/// An error.
pub(crate) fn error(method: Method, error: &OciError) -> Result<Response> {
    let mut builder = builder(error.status())?.with_header("content-type", JSON)?;
    if let Some(seconds) = error.retry_after_seconds {
        builder = builder.with_header("retry-after", &seconds.to_string())?;
    }
    if error.code == ErrorCode::Unsupported {
        builder = builder.with_header("allow", "GET, HEAD")?;
    }
    finish(builder, method, error.body())
}

/// `/healthz`: this Worker runs and is configured.
pub(crate) fn health(method: Method) -> Result<Response> {
    json(method, b"{\"status\":\"ok\"}".to_vec())
}

/// `/v2/`
pub(crate) fn base(method: Method) -> Result<Response> {
    json(method, b"{}".to_vec())
}

/// `/v2/<name>/referrers/<digest>`: always there and always empty.
pub(crate) fn referrers(method: Method, query: Option<&str>) -> Result<Response> {
    let mut builder = builder(200)?.with_header("content-type", OCI_INDEX)?;
    if query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("artifactType="))) {
        builder = builder.with_header("oci-filters-applied", "artifactType")?;
    }
    finish(builder, method, NO_REFERRERS.as_bytes().to_vec())
}

/// `/v2/<name>/tags/list`
pub(crate) fn tags(method: Method, page: TagsPage) -> Result<Response> {
    let mut builder = builder(200)?.with_header("content-type", JSON)?;
    if let Some(link) = page.link {
        builder = builder.with_header("link", &link)?;
    }
    finish(builder, method, page.body)
}

/// A manifest, or 304 when the client has it.
pub(crate) fn manifest(
    method: Method,
    manifest: Manifest,
    source: Source,
    if_none_match: Option<&str>,
) -> Result<Response> {
    let digest = manifest.metadata.digest;
    let known = if_none_match.is_some_and(|header| is_known(header, &digest));
    let mut builder = builder(if known { 304 } else { 200 })?
        .with_header("docker-content-digest", &digest.to_string())?
        .with_header("etag", &entity_tag(&digest))?
        .with_header("vary", "accept")?
        .with_header(SOURCE, source.as_str())?;
    if let Some(revision) = &manifest.metadata.revision {
        builder = builder.with_header(REVISION, revision)?;
    }
    if known {
        return Ok(builder.empty());
    }
    finish(builder.with_header("content-type", &manifest.metadata.media_type)?, method, manifest.bytes)
}
