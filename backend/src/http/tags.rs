//! `GET /v2/<name>/tags/list`: the tags that have been built, page by page.

use super::{
    App,
    answer::{self, Answer},
};
use crate::images::BuildError;
use axum::http::{HeaderValue, header};
use firn_shared::{
    naming::image_name::ImageName,
    oci::{
        discovery::TagsPage,
        endpoint::Method,
        error::{ErrorCode, OciError},
        media_type,
        repository_name::RepositoryName,
    },
};

pub(super) async fn get(app: &App, method: Method, name: &RepositoryName, query: Option<&str>) -> Answer {
    let tags = app.builder.store().tags(&ImageName::of(name)?).await;
    let tags = tags.map_err(|error| {
        tracing::error!(error = %crate::error_chain::chain(&error), "tags cannot be listed");
        BuildError::Store(error).to_oci_error()
    })?;
    if tags.is_empty() {
        return Err(OciError::new(
            ErrorCode::NameUnknown,
            "nobody has pulled this image yet, so it has no tags",
        ));
    }
    let page = TagsPage::new(name, &tags, query)?;
    let mut response = answer::json(method, media_type::JSON, page.body)?;
    if let Some(link) = page.link {
        let link = HeaderValue::from_str(&link).expect("names and tags are ASCII");
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}
