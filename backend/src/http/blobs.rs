//! `GET` and `HEAD /v2/<name>/blobs/<digest>`, whole or in part.

use super::{App, answer::Answer};
use crate::{images::BuildError, store::StoreError};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use firn_shared::{
    Digest,
    oci::{
        byte_range::{ByteRange, range_that_counts},
        endpoint::Method,
        entity_tag::{entity_tag, is_known},
        error::{ErrorCode, OciError},
        media_type,
    },
};

/// Blobs never change, and must arrive as they are: their digest is over the bytes on the wire. What only the edge's
/// clients may have, caches on the way keep for nobody.
fn cache_control(app: &App) -> &'static str {
    match app.secret {
        None => "public, max-age=31536000, immutable, no-transform",
        Some(_) => "private, max-age=31536000, immutable, no-transform",
    }
}

pub(super) async fn get(app: &App, method: Method, digest: Digest, headers: &HeaderMap) -> Answer {
    let store = app.builder.store();
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_known = text(header::IF_NONE_MATCH).is_some_and(|known| is_known(known, &digest));
    let range = range_that_counts(method, text(header::RANGE), text(header::IF_RANGE), &digest);
    // Most want the whole of it, which takes no look before: a bucket may be far away.
    let whole = match method == Method::Get && range.is_none() && !is_known {
        true => Some(store.open_blob(&digest, None).await.map_err(failed)?.ok_or_else(unknown)?),
        false => None,
    };
    let size = match &whole {
        Some(reader) => reader.size,
        None => store.blob_size(&digest).await.map_err(failed)?.ok_or_else(unknown)?,
    };
    let mut response = Response::new(Body::empty());
    let mut insert = |name, value: &str| {
        let value = HeaderValue::from_str(value).expect("digests and numbers are ASCII");
        response.headers_mut().insert(name, value);
    };
    insert(header::CONTENT_TYPE, media_type::BLOB);
    insert(header::CACHE_CONTROL, cache_control(app));
    insert(header::ACCEPT_RANGES, "bytes");
    insert(header::ETAG, &entity_tag(&digest));
    insert(header::HeaderName::from_static("docker-content-digest"), &digest.to_string());
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let range = ByteRange::parse(range, size);
    if let Some(value) = range.content_range(size) {
        insert(header::CONTENT_RANGE, &value);
    }
    let (status, bytes) = match range {
        ByteRange::Whole => (StatusCode::OK, 0..size),
        ByteRange::Part { start, end } => (StatusCode::PARTIAL_CONTENT, start..end + 1),
        ByteRange::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
    };
    insert(header::CONTENT_LENGTH, &(bytes.end - bytes.start).to_string());
    *response.status_mut() = status;
    if method == Method::Get && !bytes.is_empty() {
        let part = (range != ByteRange::Whole).then_some(bytes);
        let reader = match whole {
            Some(reader) => reader,
            None => store.open_blob(&digest, part).await.map_err(failed)?.ok_or_else(unknown)?,
        };
        *response.body_mut() = Body::from_stream(reader.bytes);
    }
    Ok(response)
}

fn unknown() -> OciError {
    OciError::new(
        ErrorCode::BlobUnknown,
        "there is no blob of this digest here; pull its image by tag to have it built",
    )
}

fn failed(error: StoreError) -> OciError {
    tracing::error!(error = %crate::error_chain::chain(&error), "a blob cannot be read");
    BuildError::Store(error).to_oci_error()
}
