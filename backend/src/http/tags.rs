//! `GET /v2/<name>/tags/list`: the tags that have been built, page by page.

use super::{
    App,
    answer::{HandlerResult, send},
    refusal::refuse_storage,
};
use firn_shared::{
    naming::image_name::ImageName,
    oci::{
        discovery::TagsPage,
        error::{ErrorCode, OciError},
        repository_name::RepositoryName,
        request::Request,
        respond,
    },
};

pub(super) async fn get(app: &App, request: &Request<'_>, name: &RepositoryName) -> HandlerResult {
    let tags = app.builder.store().tags(&ImageName::of(name)?).await.map_err(refuse_storage)?;
    if tags.is_empty() {
        return Err(OciError::new(
            ErrorCode::NameUnknown,
            "nobody has pulled this image yet, so it has no tags",
        ));
    }
    Ok(send(respond::tags(request.method, TagsPage::new(name, &tags, request.query)?)))
}
