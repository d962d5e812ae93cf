//! `/v2/<name>/tags/list`: the tags that the backend has built, and those by which the edge answers without it.
//!
//! An image that is composed here is one that the backend has never heard of, and clients such as skopeo take it for
//! broken if its tag is not listed. The edge notes a tag when it has answered by it; whether it can answer for
//! `latest` it finds out when it is asked.

use crate::{
    Failure, answer::Answer, backend, compose, edge::Edge, kv_store::KvStore, limit::Limit, tag_pointer,
};
use firn_shared::{
    naming::image_name::ImageName,
    oci::{
        discovery::TagsPage,
        endpoint::Method,
        error::{ErrorCode, OciError},
        media_type::ManifestFormat,
        reference::Tag,
        repository_name::RepositoryName,
        request::Request,
        respond,
    },
};
use std::rc::Rc;

/// The longest list that is passed on, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Answers a request for a list of tags.
pub(crate) async fn tags(
    edge: &Rc<Edge>,
    request: &Request<'_>,
    name: &RepositoryName,
) -> Result<Answer, Failure> {
    let image = ImageName::of(name)?;
    Limit::LookUps.check(edge).await?;
    let theirs = theirs(edge, name).await;
    let is_unknown = |error: &OciError| matches!(error.code, ErrorCode::NameUnknown | ErrorCode::Unavailable);
    if !compose::is_on(edge) || theirs.as_ref().is_err_and(|error| !is_unknown(error)) {
        return Ok(respond::tags(request.method, theirs?).into());
    }
    let own = own(edge, &image, theirs.as_ref().ok()).await;
    let page = match theirs {
        Ok(theirs) => TagsPage::merged(name, &theirs, &own, request.query)?,
        Err(error) if own.is_empty() => return Err(error.into()),
        // Nobody else has tags of it, or nobody can say: those that are known here are right in any case.
        Err(_) => TagsPage::new(name, &own, request.query)?,
    };
    Ok(respond::tags(request.method, page).into())
}

/// The page of the backend.
async fn theirs(edge: &Edge, name: &RepositoryName) -> Result<TagsPage, OciError> {
    let path = format!("/v2/{name}/tags/list");
    let question = backend::Question { query: edge.query(), ..backend::Question::about(Method::Get, &path) };
    let mut response = backend::response(&edge.config, question).await?;
    let link = response.headers().get("link").ok().flatten();
    let garbage = |_| {
        OciError::new(ErrorCode::Unavailable, "the backend's list of tags did not arrive whole")
            .retry_after(5)
    };
    let body = backend::body(&mut response, MAX_BYTES).await.map_err(garbage)?;
    serde_json::from_slice::<serde::de::IgnoredAny>(&body).map_err(|error| garbage(error.to_string()))?;
    Ok(TagsPage { body, link })
}

/// The tags by which this edge answers for an image.
async fn own(edge: &Rc<Edge>, image: &ImageName, theirs: Option<&TagsPage>) -> Vec<Tag> {
    let Some(store) = KvStore::open(&edge.env, &edge.config) else { return Vec::new() };
    let mut tags = store.noted_tags(image).await;
    let latest = Tag::default();
    let is_listed = theirs.is_some_and(|page| page.has(&latest));
    if !is_listed && answers(edge, &store, image, &latest).await {
        tags.push(latest);
    }
    tags
}

/// Whether the edge has, or could compose, what a tag named last.
async fn answers(edge: &Rc<Edge>, store: &KvStore, image: &ImageName, tag: &Tag) -> bool {
    let Some(pointer) = tag_pointer::recall(edge, tag).await else { return false };
    for format in [ManifestFormat::Oci, ManifestFormat::Docker] {
        if store.manifest(&pointer.package_set, image, format).await.is_some() {
            return true;
        }
    }
    compose::is_possible(edge, &pointer.package_set, image).await
}
