//! `GET /composition/<key>`: a record that an edge composes images from. Whoever may ask for images may have it:
//! it says nothing that the images do not.

use super::{
    App,
    answer::{self, Answer, into_response},
    authentication, manifests,
};
use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use firn_shared::{
    cache_key::CacheKey,
    oci::{
        endpoint::Method,
        error::{ErrorCode, OciError},
        media_type,
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

async fn record(app: &App, method: Method, key: &str) -> Answer {
    let unknown = || OciError::new(ErrorCode::NameUnknown, "nothing is recorded under this key");
    let key: CacheKey = key.parse().map_err(|_| unknown())?;
    let bytes = app.builder.published(&key).await.map_err(manifests::refuse)?.ok_or_else(unknown)?;
    answer::json(method, media_type::BLOB, bytes.into())
}
