//! `GET /pulls/<digest>,<digest>,…`: the edge reports that it has answered with these manifests out of its caches, so
//! that garbage collection knows of it, and learns which of them are no longer to be answered with.

use super::{
    App,
    answer::{HandlerResult, into_response, send},
    authentication,
    refusal::refuse_storage,
};
use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use firn_shared::{
    cache_key::CacheKey,
    link::protocol::read_pulled,
    oci::{
        endpoint::Method,
        error::{ErrorCode, OciError},
        media_type, respond,
    },
};
use std::sync::Arc;

pub(super) async fn get(State(app): State<Arc<App>>, Path(list): Path<String>, request: Request) -> Response {
    let (request, _body) = request.into_parts();
    into_response(match authentication::method_of_edge(app.secret.as_deref(), &request) {
        Ok(method) => report(&app, method, &list).await,
        Err(error) => Err(error),
    })
}

async fn report(app: &App, method: Method, list: &str) -> HandlerResult {
    let no_report = || OciError::new(ErrorCode::DigestInvalid, "this is no list of digests that were pulled");
    let digests = read_pulled(list).ok_or_else(no_report)?;
    let store = app.builder.store();
    for digest in &digests {
        store.note_pull(&CacheKey::from_bytes(*digest.as_bytes()));
    }
    let leaving = store.leaving(&digests).await.map_err(refuse_storage)?;
    let bytes = serde_json::to_vec(&leaving).expect("digests serialise");
    Ok(send(respond::bytes(method, media_type::JSON, bytes)))
}
