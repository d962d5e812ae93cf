//! `GET` and `HEAD /v2/<name>/blobs/<digest>`, whole or in part.

use super::{
    App,
    answer::{HandlerResult, send_with},
    refusal::refuse_storage,
};
use axum::body::Body;
use firn_shared::{
    Digest,
    oci::{
        error::{ErrorCode, OciError},
        request::Request,
        respond::{self, CacheScope},
    },
};

pub(super) async fn get(app: &App, request: &Request<'_>, digest: &Digest) -> HandlerResult {
    let store = app.builder.store();
    let open = async |part| {
        let reader = store.open_blob(digest, part).await.map_err(refuse_storage)?;
        reader.ok_or_else(unknown)
    };
    // Most want the whole of it, which takes no look before: a bucket may be far away.
    let mut reader = match request.takes_whole(digest) {
        true => Some(open(None).await?),
        false => None,
    };
    let size = match &reader {
        Some(reader) => reader.size,
        None => store.blob_size(digest).await.map_err(refuse_storage)?.ok_or_else(unknown)?,
    };
    // What only the edge's clients may have, caches on the way keep for nobody.
    let scope = match app.secret {
        None => CacheScope::Public,
        Some(_) => CacheScope::Private,
    };
    let response = respond::blob(request, digest, size, scope);
    if let (respond::Body::Blob { range, .. }, None) = (&response.body, &reader) {
        reader = Some(open(range.clone()).await?);
    }
    let content = reader.map_or_else(Body::empty, |reader| Body::from_stream(reader.bytes));
    Ok(send_with(response, content))
}

fn unknown() -> OciError {
    OciError::new(
        ErrorCode::BlobUnknown,
        "there is no blob of this digest here; pull its image by tag to have it built",
    )
}
