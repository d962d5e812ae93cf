//! `GET /composition/<key>`: a record that an edge composes images from. Whoever may ask for images may have it:
//! it says nothing that the images do not.

use super::{
    App,
    answer::{HandlerResult, into_response, send},
    authentication,
    refusal::refuse,
};
use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use firn_shared::{
    cache_key::CacheKey,
    naming::package::Words,
    oci::{
        endpoint::Method,
        error::{ErrorCode, OciError},
        media_type, respond,
    },
};
use std::sync::Arc;

pub(super) async fn get(State(app): State<Arc<App>>, Path(key): Path<String>, request: Request) -> Response {
    let (request, _body) = request.into_parts();
    into_response(match authentication::method_of_edge(app.secret.as_deref(), &request) {
        Ok(method) => record(&app, method, &key).await,
        Err(error) => Err(error),
    })
}

async fn record(app: &App, method: Method, key: &str) -> HandlerResult {
    let unknown = || OciError::new(ErrorCode::NameUnknown, "nothing is recorded under this key");
    let key: CacheKey = key.parse().map_err(|_| unknown())?;
    let published = app.builder.published(&key).await;
    let bytes = published.map_err(|error| refuse(error, Words::Hidden))?.ok_or_else(unknown)?;
    Ok(send(respond::bytes(method, media_type::BLOB, bytes.into())))
}
