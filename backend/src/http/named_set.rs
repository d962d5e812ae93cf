//! `GET /tags/<tag>`: the package set that a tag names. An edge asks this for a tag of which it serves images, so that
//! it need not ask for each image. Nothing is evaluated or built for it.

use super::{
    App,
    answer::{HandlerResult, into_response, send},
    authentication, client,
    refusal::refuse,
};
use crate::waiting::Client;
use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use firn_shared::{
    link::protocol::{PACKAGE_SET, REVISION},
    naming::package::Words,
    oci::{
        endpoint::Method,
        error::{ErrorCode, OciError},
        media_type,
        reference::Tag,
        respond,
    },
};
use std::sync::Arc;

pub(super) async fn get(State(app): State<Arc<App>>, Path(tag): Path<String>, request: Request) -> Response {
    let (request, _body) = request.into_parts();
    into_response(match authentication::method_of_edge(app.secret.as_deref(), &request) {
        Ok(method) => named_set(&app, method, &tag, client(&app, &request)).await,
        Err(error) => Err(error),
    })
}

async fn named_set(app: &App, method: Method, tag: &str, client: Client) -> HandlerResult {
    let no_tag = |_| OciError::new(ErrorCode::ManifestUnknown, "this is no tag");
    let tag: Tag = tag.parse().map_err(no_tag)?;
    let set = app.builder.package_set(&tag, client).await;
    let set = set.map_err(|error| refuse(error, Words::Hidden))?;
    let (package_set, revision) = (set.token.to_string(), set.revision.id().to_owned());
    let page = serde_json::json!({ "package_set": package_set, "revision": revision }).to_string();
    let answer = respond::bytes(method, media_type::JSON, page.into_bytes());
    Ok(send(answer.with(PACKAGE_SET, package_set).with(REVISION, revision)))
}
