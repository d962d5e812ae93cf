//! `GET` and `HEAD /v2/<name>/manifests/<reference>`.

use super::{
    App,
    answer::Answer,
    ready::{Asked, ReadyManifest},
};
use crate::{
    images::{BuildError, ImageStatus, PackageSetState},
    store::ImageRecord,
    waiting::{Client, Progress},
};
use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use firn_shared::{
    Digest,
    link::{patience, protocol},
    naming::{image_name::ImageName, package::Words},
    oci::{
        discovery,
        document::Document,
        endpoint::Method,
        error::{ErrorCode, OciError},
        media_type::ManifestFormat,
        reference::{Reference, Tag},
        repository_name::RepositoryName,
    },
};
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long a client is told to wait before it asks again for an image that is being built.
const RETRY_AFTER_SECONDS: u32 = 5;

pub(super) async fn get(
    app: &App,
    method: Method,
    name: &RepositoryName,
    reference: Reference,
    request: &Parts,
    client: Client,
) -> Answer {
    match reference {
        Reference::Digest(digest) => by_digest(app, method, digest, &request.headers).await,
        Reference::Tag(tag) if tag.is_of_referrers() => Err(discovery::no_referrers_tag(&tag)),
        Reference::Tag(tag) => by_tag(app, method, name, &tag, request, client).await,
    }
}

async fn by_tag(
    app: &App,
    method: Method,
    name: &RepositoryName,
    tag: &Tag,
    request: &Parts,
    client: Client,
) -> Answer {
    // What is no image is refused before anybody is asked what the tag means.
    let image = &ImageName::of(name)?;
    let headers = &request.headers;
    let deadline = Instant::now() + app.wait;
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let format = ManifestFormat::negotiate(accept);
    let revision = timeout_at(deadline, app.builder.revision(tag, client)).await;
    let revision =
        revision.map_err(|_| ask_again("the package repository takes long to answer"))?.map_err(refuse)?;
    let (asked, store) = (Asked::Tag(name.clone(), tag.clone(), format), app.builder.store());
    look_for_missing(app, headers).await?;
    if let Some(answer) = app.manifests.answer(&asked, Some(&revision), store, method, headers) {
        return Ok(answer);
    }
    let set = app.builder.package_set_at(revision);
    let losses = store.losses();
    let find = async || record(app, image, tag, &set, request, client, deadline).await;
    let record = match find().await? {
        ControlFlow::Continue(record) => record,
        ControlFlow::Break(answer) => return Ok(answer),
    };
    app.builder.note_tag(image, tag).await;
    let (record, bytes) = match stored(app, digest_of(&record, format)?).await {
        // It was there not long ago: now the image is looked at, found wanting and built again.
        Err(error) if error.code == ErrorCode::ManifestUnknown => {
            store.note_loss();
            let record = match find().await? {
                ControlFlow::Continue(record) => record,
                ControlFlow::Break(answer) => return Ok(answer),
            };
            let bytes = stored(app, digest_of(&record, format)?).await?;
            (record, bytes)
        }
        bytes => (record, bytes?),
    };
    let mut manifest = ReadyManifest::new(digest_of(&record, format)?, content_type(&bytes)?, bytes);
    // What the edge wants to know beside it.
    manifest.say(HeaderName::from_static(protocol::REVISION), record.revision.id());
    manifest.say(HeaderName::from_static(protocol::PACKAGE_SET), &set.token.to_string());
    // One tag is several manifests.
    manifest.say(header::VARY, "accept");
    let answer = manifest.answer(method, headers);
    let key = set.image_key(image);
    app.manifests.keep(asked, manifest, losses, Some((set.revision, key)));
    Ok(answer)
}

/// Looks for the blob that the edge has missed. If it is gone, images are looked at again that were whole not long ago.
async fn look_for_missing(app: &App, headers: &HeaderMap) -> Result<(), OciError> {
    let missing =
        headers.get(protocol::MISSING).and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
    // Nobody else is believed, as it costs everybody something.
    let Some(missing) = missing.filter(|_| app.secret.is_some()) else { return Ok(()) };
    let store = app.builder.store();
    let size = store.blob_size(&missing).await.map_err(|error| refuse(BuildError::Store(error)))?;
    if size.is_none() {
        store.note_loss();
    }
    Ok(())
}

/// The image's record: found, or waited for; or what is answered instead when that takes too long.
async fn record(
    app: &App,
    name: &ImageName,
    tag: &Tag,
    set: &PackageSetState,
    request: &Parts,
    client: Client,
    deadline: Instant,
) -> Result<ControlFlow<Response, Arc<ImageRecord>>, OciError> {
    let words = app.builder.words(&set.revision);
    let image = timeout_at(deadline, app.builder.image(name, tag, set, client)).await;
    let image = image.map_err(|_| ask_again("many images are asked for"))?;
    let record = match image.map_err(|error| refuse_with(error, words))? {
        ImageStatus::Ready(record) => record,
        ImageStatus::Building(waiting) => tokio::select! {
            outcome = waiting.outcome() => outcome.map_err(|error| error.to_oci_error_with(words))?,
            () = sleep_until(deadline) => {
                return come_back(app, name, &waiting.progress, request).map(ControlFlow::Break);
            }
            () = app.ending() => {
                let message = "this registry is being restarted; pull again";
                return Err(OciError::new(ErrorCode::Unavailable, message).retry_after(RETRY_AFTER_SECONDS));
            }
        },
    };
    Ok(ControlFlow::Continue(record))
}

/// What a client is told whose patience must not be tried further: to come back, in words or, where it would
/// not understand them, by a redirect.
fn come_back(app: &App, name: &ImageName, progress: &Progress, request: &Parts) -> Answer {
    let agent = request.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let location = patience::wait_again(agent, request.uri.path(), request.uri.query());
    if let Some(location) = location.and_then(|location| HeaderValue::from_str(&location).ok()) {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        response.headers_mut().insert(header::LOCATION, location);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return Ok(response);
    }
    let (summary, id) = (progress.summary(), progress.id());
    let message =
        format!("{name} is being built: {summary}. Pull again to wait for it, or look at /builds/{id}");
    let error = OciError::new(ErrorCode::Toomanyrequests, message);
    // Early enough to keep its place.
    let longest = u32::try_from(app.builder.abandon_after().as_secs() / 2).unwrap_or(u32::MAX).max(1);
    Err(error.retry_after(patience::retry_after_seconds(progress.age_seconds()).min(longest)))
}

fn ask_again(message: &str) -> OciError {
    OciError::new(ErrorCode::Toomanyrequests, format!("{message}; pull again"))
        .retry_after(RETRY_AFTER_SECONDS)
}

fn digest_of(record: &Arc<ImageRecord>, format: ManifestFormat) -> Result<Digest, OciError> {
    match format {
        ManifestFormat::Oci => Ok(record.digest()),
        ManifestFormat::Docker => record.document(format).map(|document| document.digest).ok_or_else(|| {
            OciError::new(
                ErrorCode::ManifestUnknown,
                "this registry compresses layers with zstd, which needs a client that accepts OCI manifests",
            )
        }),
    }
}

async fn by_digest(app: &App, method: Method, digest: Digest, headers: &HeaderMap) -> Answer {
    let (asked, store) = (Asked::Digest(digest), app.builder.store());
    if let Some(answer) = app.manifests.answer(&asked, None, store, method, headers) {
        return Ok(answer);
    }
    let losses = store.losses();
    let bytes = stored(app, digest).await?;
    let manifest = ReadyManifest::new(digest, content_type(&bytes)?, bytes);
    let answer = manifest.answer(method, headers);
    app.manifests.keep(asked, manifest, losses, None);
    Ok(answer)
}

/// The media type of a document, from its own bytes.
fn content_type(bytes: &[u8]) -> Result<&'static str, OciError> {
    Document::parse(bytes).map(|document| document.media_type()).map_err(|_| unknown())
}

/// A manifest's bytes. Layers are blobs too, but no manifest is as large as most are.
async fn stored(app: &App, digest: Digest) -> Result<Bytes, OciError> {
    let failed = |error| refuse(BuildError::Store(error));
    app.builder.store().small_blob(&digest).await.map_err(failed)?.ok_or_else(unknown)
}

fn unknown() -> OciError {
    OciError::new(
        ErrorCode::ManifestUnknown,
        "there is no manifest of this digest here; pull by tag to have it built",
    )
}

/// Logs an error that no build reports and says what the client may know.
pub(super) fn refuse(error: BuildError) -> OciError {
    refuse_with(error, Words::Hidden)
}

fn refuse_with(error: BuildError, words: Words) -> OciError {
    let answer = error.to_oci_error_with(words);
    if answer.status() >= 500 {
        tracing::error!(error = %crate::error_chain::chain(&error), "request failed");
    }
    answer
}
