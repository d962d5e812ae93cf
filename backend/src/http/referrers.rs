//! `GET /v2/<name>/referrers/<digest>`, and the same by the tag `sha256-<digits>` for clients that do not know it.

use super::{
    App,
    answer::{HandlerResult, send, send_with},
    refusal::refuse,
};
use crate::{images::Subjects, waiting::Client};
use axum::body::Body;
use firn_shared::{
    Digest,
    naming::{image_name::ImageName, package::Words},
    oci::{
        discovery::{no_referrers_tag, referrers_index},
        document::Descriptor,
        error::OciError,
        media_type::OCI_INDEX,
        reference::Tag,
        repository_name::RepositoryName,
        request::Request,
        respond,
    },
};
use std::sync::Arc;

pub(super) async fn get(
    app: &App,
    request: &Request<'_>,
    name: &RepositoryName,
    manifest: &Digest,
    client: Client,
) -> HandlerResult {
    let referrers = referrers(app, name, manifest, client).await?;
    Ok(send(respond::referrers(request, &referrers)))
}

/// Answers for a tag of [`Tag::is_of_referrers`].
pub(super) async fn by_tag(
    app: &App,
    request: &Request<'_>,
    name: &RepositoryName,
    tag: &Tag,
    client: Client,
) -> HandlerResult {
    let Some(manifest) = tag.subject() else { return Err(no_referrers_tag(tag)) };
    let referrers = referrers(app, name, &manifest, client).await?;
    if referrers.is_empty() {
        return Err(no_referrers_tag(tag));
    }
    let index = referrers_index(&referrers, None);
    let (digest, length) = (Digest::of(&index), index.len() as u64);
    Ok(send_with(respond::manifest(request, &digest, OCI_INDEX, length), Body::from(index)))
}

async fn referrers(
    app: &App,
    name: &RepositoryName,
    manifest: &Digest,
    client: Client,
) -> Result<Arc<[Descriptor]>, OciError> {
    // A name that cannot be an image has no manifests to refer to. And no manifest is empty: edges ask for this digest
    // to see whether this backend answers.
    let Ok(name) = ImageName::of(name) else { return Ok(Arc::default()) };
    if *manifest == Digest::of(b"") {
        return Ok(Arc::default());
    }
    // With a secret, only edges get here. They compose images that this backend has never made.
    let subjects = if app.secret.is_some() { Subjects::Composed } else { Subjects::Stored };
    let referrers = app.builder.referrers(&name, manifest, subjects, client).await;
    referrers.map_err(|error| refuse(error, Words::Hidden))
}
