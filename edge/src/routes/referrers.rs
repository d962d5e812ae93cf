//! `/v2/<name>/referrers/<digest>`, and the same by the tag `sha256-<digits>`: what refers to an image, from the nearest
//! caches, else from the backend.
//!
//! Composing the documents here would take all records of the image again, and code that most requests do not need. The
//! backend makes them also of images that only the edge has composed, because it makes the same image of the same records.
//! It stores their blobs where it stores layers, and keeps them for as long as somebody asks for them: so the answer is
//! not remembered for long here.

use crate::{
    Failure,
    answer::{self, Answer},
    backend::{self, Question},
    cache::Key,
    edge::Edge,
    limit::Limit,
    manifest::Manifest,
    repository,
};
use firn_shared::{
    link::protocol::AnswerSource,
    naming::image_name::ImageName,
    oci::{
        digest::Digest,
        discovery::no_referrers_tag,
        document::Document,
        endpoint::Method,
        error::{ErrorCode, OciError},
        media_type::OCI_INDEX,
        reference::Tag,
        repository_name::RepositoryName,
        request::Request,
        respond,
    },
};
use std::rc::Rc;

/// Answers a request for the referrers of a manifest.
pub(crate) async fn referrers(
    edge: &Rc<Edge>,
    request: &Request<'_>,
    name: &RepositoryName,
    subject: &Digest,
) -> Result<Answer, Failure> {
    let found = index(edge, name, subject).await?;
    let referrers = match found.and_then(|(index, _)| index.document().ok()) {
        Some(Document::Index(index)) => index.manifests,
        _ => Vec::new(),
    };
    Ok(respond::referrers(request, &referrers).into())
}

/// Answers a request for a tag of [`Tag::is_of_referrers`].
pub(crate) async fn referrers_by_tag(
    edge: &Rc<Edge>,
    request: &Request<'_>,
    name: &RepositoryName,
    tag: &Tag,
) -> Result<Answer, Failure> {
    let found = match tag.subject() {
        Some(subject) => index(edge, name, &subject).await?,
        None => None,
    };
    let (index, source) = found.ok_or_else(|| no_referrers_tag(tag))?;
    Ok(answer::manifest(request, index, source))
}

/// The index of the referrers of a manifest, if it has any.
async fn index(
    edge: &Rc<Edge>,
    name: &RepositoryName,
    subject: &Digest,
) -> Result<Option<(Manifest, AnswerSource)>, OciError> {
    let Ok(image) = ImageName::of(name) else { return Ok(None) };
    let or_none = |error: OciError| match error.code {
        ErrorCode::ManifestUnknown => Ok(None),
        _ => Err(error),
    };
    if let Err(error) = repository::check(edge, &image, subject, ErrorCode::ManifestUnknown).await {
        return or_none(error);
    }
    let key = Key::referrers(edge, subject);
    if let Some(index) = key.get().await {
        repository::note(edge, &image, &index).await?;
        return Ok(Some((index, AnswerSource::Cache)));
    }
    Limit::LookUps.check(edge).await?;
    let path = format!("/v2/{name}/manifests/sha256-{}", subject.hex());
    let client = edge.client();
    let question = Question { client: client.as_deref(), ..Question::about(Method::Get, &path) };
    let index = match backend::manifest(&edge.config, question, None).await {
        Ok(fetched) if fetched.manifest.metadata.media_type == OCI_INDEX => fetched.manifest,
        Ok(_) => return Ok(None),
        Err(error) => return or_none(error),
    };
    repository::note(edge, &image, &index).await?;
    key.keep(edge, &index);
    Ok(Some((index, AnswerSource::Backend)))
}
