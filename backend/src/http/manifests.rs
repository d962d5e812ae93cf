//! `GET` and `HEAD /v2/<name>/manifests/<reference>`.

use super::{
    App,
    answer::{HandlerResult, send},
    ready::{Asked, ReadyManifest},
    referrers,
    refusal::{refusal, refuse, refuse_storage},
};
use crate::{
    images::{BuildError, ImageStatus, PackageSetState},
    store::ImageRecord,
    waiting::{Client, Progress},
};
use axum::{
    http::{HeaderMap, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use firn_shared::{
    Digest,
    link::{protocol, waiting},
    naming::{image_name::ImageName, package::Words},
    oci::{
        document::Document,
        error::{ErrorCode, OciError},
        media_type::ManifestFormat,
        reference::{Reference, Tag},
        repository_name::RepositoryName,
        request::Request,
    },
};
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until, timeout_at};

/// When a client may ask again for what has not begun, in seconds. Builds use [`waiting`].
const RETRY_AFTER_SECONDS: u32 = 5;

pub(super) async fn get(
    app: &App,
    request: &Request<'_>,
    name: &RepositoryName,
    reference: &Reference,
    parts: &Parts,
    client: Client,
) -> HandlerResult {
    match reference {
        Reference::Digest(digest) => by_digest(app, request, *digest).await,
        Reference::Tag(tag) if tag.is_of_referrers() => {
            referrers::by_tag(app, request, name, tag, client).await
        }
        Reference::Tag(tag) => by_tag(app, request, name, tag, parts, client).await,
    }
}

async fn by_tag(
    app: &App,
    request: &Request<'_>,
    name: &RepositoryName,
    tag: &Tag,
    parts: &Parts,
    client: Client,
) -> HandlerResult {
    // What is no image is refused before anybody is asked what the tag means.
    let image = &ImageName::of(name)?;
    let format = request.format;
    let deadline = Instant::now() + app.wait;
    let revision = timeout_at(deadline, app.builder.revision(tag, client)).await;
    let revision =
        revision.map_err(|_| ask_again("the package repository takes long to answer"))?.map_err(hidden)?;
    let (asked, store) = (Asked::Tag(name.clone(), tag.clone(), format), app.builder.store());
    look_for_missing(app, &parts.headers).await?;
    if let Some(answer) = app.manifests.answer(&asked, Some(&revision), store, request) {
        return Ok(answer);
    }
    let set = app.builder.package_set_at(revision);
    let losses = store.losses();
    let find = async || record(app, image, tag, &set, parts, client, deadline).await;
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
    let named = (record.revision.id().to_owned(), set.token);
    let manifest = ReadyManifest::new(digest_of(&record, format)?, media_type(&bytes)?, bytes, Some(named));
    let answer = manifest.answer(request);
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
    let size = store.blob_size(&missing).await.map_err(refuse_storage)?;
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
    parts: &Parts,
    client: Client,
    deadline: Instant,
) -> Result<ControlFlow<Response, Arc<ImageRecord>>, OciError> {
    let words = app.builder.words(&set.revision);
    let image = timeout_at(deadline, app.builder.image(name, tag, set, client)).await;
    let image = image.map_err(|_| ask_again("many images are asked for"))?;
    let record = match image.map_err(|error| refuse(error, words))? {
        ImageStatus::Ready(record) => record,
        ImageStatus::Building(waiting) => tokio::select! {
            outcome = waiting.outcome() => outcome.map_err(|error| refusal(&error, words))?,
            () = sleep_until(deadline) => {
                return come_back(app, name, &waiting.progress, parts).map(ControlFlow::Break);
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
fn come_back(app: &App, name: &ImageName, progress: &Progress, parts: &Parts) -> HandlerResult {
    let (summary, id) = (progress.summary(), progress.id());
    let message =
        format!("{name} is being built: {summary}. Pull again to wait for it, or look at /builds/{id}");
    // Early enough to keep its place.
    let longest = u32::try_from(app.builder.abandon_after().as_secs() / 2).unwrap_or(u32::MAX).max(1);
    let error = OciError::new(ErrorCode::Toomanyrequests, message)
        .of_build(id)
        .retry_after(waiting::retry_after_seconds(progress.age_seconds()).min(longest));
    let agent = || parts.headers.get(header::USER_AGENT)?.to_str().ok();
    match waiting::wait_again(&error, agent, parts.uri.path(), parts.uri.query()) {
        Some(response) => Ok(send(response)),
        None => Err(error),
    }
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

async fn by_digest(app: &App, request: &Request<'_>, digest: Digest) -> HandlerResult {
    let (asked, store) = (Asked::Digest(digest), app.builder.store());
    if let Some(answer) = app.manifests.answer(&asked, None, store, request) {
        return Ok(answer);
    }
    let losses = store.losses();
    let bytes = stored(app, digest).await?;
    let media_type = media_type(&bytes)?;
    let manifest = ReadyManifest::new(digest, media_type, bytes, None);
    let answer = manifest.answer(request);
    app.manifests.keep(asked, manifest, losses, None);
    Ok(answer)
}

/// The media type of a document, from its own bytes.
fn media_type(bytes: &[u8]) -> Result<&'static str, OciError> {
    Document::parse(bytes).map(|document| document.media_type()).map_err(|_| unknown())
}

/// A manifest's bytes. Layers are blobs too, but no manifest is as large as most are.
async fn stored(app: &App, digest: Digest) -> Result<Bytes, OciError> {
    app.builder.store().small_blob(&digest).await.map_err(refuse_storage)?.ok_or_else(unknown)
}

fn unknown() -> OciError {
    OciError::new(
        ErrorCode::ManifestUnknown,
        "there is no manifest of this digest here; pull by tag to have it built",
    )
}

/// An error of which it is not known whether its words may be shown.
fn hidden(error: BuildError) -> OciError {
    refuse(error, Words::Hidden)
}
