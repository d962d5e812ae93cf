//! Which digests belong to an image name. A private deployment serves no others.
//!
//! They are recorded when a manifest is served, before the client can ask for its blobs, in one Durable Object per
//! name. KV would take a minute to show them, and would cache the misses until then.
//!
//! A digest belongs to a name forever. So the isolate and the location remember what they learn, and a pull sends the
//! object one request at most: everything about a manifest is recorded, and answered, at once.

mod rows;

use crate::{
    backend,
    belonging::{self, Belonging, Entry},
    config::Access,
    edge::Edge,
    limit::Limit,
    location,
    manifest::Manifest,
    memory,
    object::{self, ObjectError, Question},
};
use firn_shared::{
    cache_key::CacheKey,
    naming::image_name::ImageName,
    oci::{
        digest::Digest,
        document::{ChildKind, MAX_BYTES},
        error::{ErrorCode, OciError},
    },
};
use worker::js_sys::Uint8Array;
use worker::{Response, console_error};

/// The Durable Object binding, which a private deployment needs.
const BINDING: &str = "REPOSITORIES";
/// Timeout of a Durable Object in milliseconds.
const ASK_MILLIS: u64 = 5_000;
/// How long a location remembers the digests of a name: a day, in seconds.
const LOCATION_SECONDS: u64 = 24 * 3600;

/// Records that a document, and all that it refers to, belongs to a name. What the manifests of an index refer to is
/// recorded when they are served in turn.
///
/// # Errors
/// `UNAVAILABLE` if this cannot be recorded: the client could not fetch what the document refers to.
pub(crate) async fn note(edge: &Edge, name: &ImageName, manifest: &Manifest) -> Result<(), OciError> {
    let digest = manifest.metadata.digest;
    if matches!(edge.config.access, Access::Public)
        || known(edge, name, &digest, Belonging::Noted).await.is_some()
    {
        return Ok(());
    }
    let document = manifest.document().map_err(|error| failed(&error.to_string()))?;
    let children = document.children().map(|child| match child.kind {
        ChildKind::Blob => (child.descriptor.digest, Belonging::Noted),
        ChildKind::Manifest => (child.descriptor.digest, Belonging::Listed),
    });
    let mut entries: Vec<Entry> = [(digest, Belonging::Noted)].into_iter().chain(children).collect();
    let row = Uint8Array::from(belonging::encode(&entries).as_slice());
    let question = Question { body: Some(row.into()), ..Question::get("/".to_owned()) };
    let mut response = ask(edge, name, question).await?;
    match response.status_code() {
        200 => {
            entries.extend(read(&mut response).await?);
            remember(edge, name, &entries);
            Ok(())
        }
        status => Err(failed(&format!("status {status}"))),
    }
}

/// Checks whether a digest is known to belong to an image name.
///
/// # Errors
/// `code` if it does not belong to it; `UNAVAILABLE` if that is not known.
pub(crate) async fn check(
    edge: &Edge,
    name: &ImageName,
    digest: &Digest,
    code: ErrorCode,
) -> Result<(), OciError> {
    if matches!(edge.config.access, Access::Public)
        || known(edge, name, digest, Belonging::Listed).await.is_some()
    {
        return Ok(());
    }
    Limit::LookUps.check(edge).await?;
    let mut response = ask(edge, name, Question::get(format!("/{digest}"))).await?;
    match response.status_code() {
        200 => {
            remember(edge, name, &read(&mut response).await?);
            Ok(())
        }
        404 => {
            let message = format!("{digest} does not belong to an image {name}; pull it by tag first");
            Err(OciError::new(code, message))
        }
        status => Err(failed(&format!("status {status}"))),
    }
}

/// How a digest belongs to a name, if the isolate or the location knows that it does so at least like this.
async fn known(edge: &Edge, name: &ImageName, digest: &Digest, least: Belonging) -> Option<Belonging> {
    let remembered = || memory::belonging(name, digest).filter(|belonging| *belonging >= least);
    if let Some(belonging) = remembered() {
        return Some(belonging);
    }
    let entries = location::get(edge, &path(name)).await?;
    memory::remember_belonging(name, belonging::decode(&entries));
    remembered()
}

/// Remembers entries here and for the location.
fn remember(edge: &Edge, name: &ImageName, entries: &[Entry]) {
    memory::remember_belonging(name, entries.iter().copied());
    location::keep(edge, &path(name), belonging::encode(&memory::belongings(name)), LOCATION_SECONDS);
}

fn path(name: &ImageName) -> String {
    format!("belonging/{}", CacheKey::builder("belonging-1").field(name.to_string()).build())
}

async fn read(response: &mut Response) -> Result<Vec<Entry>, OciError> {
    let bytes = backend::body(response, MAX_BYTES).await.map_err(|error| failed(&error))?;
    Ok(belonging::decode(&bytes).collect())
}

async fn ask(edge: &Edge, name: &ImageName, question: Question) -> Result<Response, OciError> {
    let name = name.to_string();
    let answer = object::ask(&edge.env, &edge.config, BINDING, &name, &question);
    let answer = backend::within(ASK_MILLIS, answer).await;
    answer.ok_or_else(|| failed("no answer"))?.map_err(|error| match error {
        ObjectError::Unbound => {
            let problem = "the edge is not configured: FIRN_ACCESS=private needs the Durable Object binding";
            OciError::new(ErrorCode::Internal, format!("{problem} {BINDING}"))
        }
        error => failed(&error.to_string()),
    })
}

fn failed(reason: &str) -> OciError {
    console_error!("{}", serde_json::json!({ "message": "a repository failed", "error": reason }));
    let message = "cannot check now whether this may be pulled; try again later";
    OciError::new(ErrorCode::Unavailable, message).retry_after(5)
}
