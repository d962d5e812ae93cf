//! Which digests belong to an image name. A private deployment serves no others.
//!
//! They are recorded when a manifest is served, before the client can ask for its blobs, in one Durable Object per
//! name. KV would take a minute to show them, and would cache the misses until then.

use crate::{
    backend,
    config::Access,
    edge::Edge,
    manifest::Manifest,
    memory::{self, Belonging},
};
use firn_shared::{
    naming::image_name::ImageName,
    oci::{
        digest::Digest,
        document::ChildKind,
        error::{ErrorCode, OciError},
    },
};
use worker::js_sys::{Object, Reflect};
use worker::wasm_bindgen::JsValue;
use worker::{
    DurableObject, Env, Method, Request, RequestInit, Response, State, Stub, console_error, durable_object,
};

/// The Durable Object binding, which a private deployment needs.
const BINDING: &str = "REPOSITORIES";
/// Timeout of a Durable Object in milliseconds.
const ASK_MILLIS: u64 = 5_000;
/// Where a Durable Object takes the manifests that an index lists. A manifest that is listed again is recorded again when it
/// is served, which is harmless.
const LISTED: &str = "/listed";
/// How many digests a Durable Object stores at once.
const BATCH: usize = 100;

/// Records that a document, and all that it refers to, belongs to a name. What the manifests of an index refer to is
/// recorded when they are served in turn.
///
/// # Errors
/// `UNAVAILABLE` if this cannot be recorded: the client could not fetch what the document refers to.
pub(crate) async fn note(edge: &Edge, name: &ImageName, manifest: &Manifest) -> Result<(), OciError> {
    let digest = manifest.metadata.digest;
    let is_public = matches!(edge.config.access, Access::Public);
    if is_public || memory::belonging(name, &digest) == Some(Belonging::Noted) {
        return Ok(());
    }
    let document = manifest.document().map_err(|error| failed(&error.to_string()))?;
    let children = |kind| {
        let children = document.children().filter(move |child| child.kind == kind);
        children.map(|child| child.descriptor.digest)
    };
    let listed: Vec<Digest> = children(ChildKind::Manifest).collect();
    if !listed.is_empty() {
        add(edge, name, LISTED, &listed, Belonging::Listed).await?;
    }
    // The document itself comes last: once it is noted, so is all that it refers to.
    let noted: Vec<Digest> = children(ChildKind::Blob).chain([digest]).collect();
    add(edge, name, "/", &noted, Belonging::Noted).await
}

async fn add(
    edge: &Edge,
    name: &ImageName,
    path: &str,
    digests: &[Digest],
    belonging: Belonging,
) -> Result<(), OciError> {
    let list = serde_json::to_string(digests).expect("digests serialise");
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_body(Some(JsValue::from_str(&list)));
    match ask(edge, name, path, &init).await?.status_code() {
        204 => {
            memory::remember_belonging(name, digests, belonging);
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
    if matches!(edge.config.access, Access::Public) || memory::belonging(name, digest).is_some() {
        return Ok(());
    }
    let belonging = match ask(edge, name, &format!("/{digest}"), &RequestInit::new()).await?.status_code() {
        200 => Belonging::Noted,
        202 => Belonging::Listed,
        404 => {
            let message = format!("{digest} does not belong to an image {name}; pull it by tag first");
            return Err(OciError::new(code, message));
        }
        status => return Err(failed(&format!("status {status}"))),
    };
    memory::remember_belonging(name, &[*digest], belonging);
    Ok(())
}

async fn ask(edge: &Edge, name: &ImageName, path: &str, init: &RequestInit) -> Result<Response, OciError> {
    let stub = |name: &str| -> worker::Result<Stub> { edge.env.durable_object(BINDING)?.get_by_name(name) };
    let stub = stub(&name.to_string()).map_err(|_| {
        let problem = "the edge is not configured: FIRN_ACCESS=private needs the Durable Object binding";
        OciError::new(ErrorCode::Internal, format!("{problem} {BINDING}"))
    })?;
    let send = async {
        let request = Request::new_with_init(&format!("https://repository{path}"), init)?;
        stub.fetch_with_request(request).await
    };
    let answer = backend::within(ASK_MILLIS, send).await;
    answer.ok_or_else(|| failed("no answer"))?.map_err(|error: worker::Error| failed(&error.to_string()))
}

fn failed(reason: &str) -> OciError {
    console_error!("{}", serde_json::json!({ "message": "a repository failed", "error": reason }));
    let message = "cannot check now whether this may be pulled; try again later";
    OciError::new(ErrorCode::Unavailable, message).retry_after(5)
}

/// The digests of one name.
#[durable_object(fetch)]
pub struct Repository {
    state: State,
}

impl DurableObject for Repository {
    fn new(state: State, _env: Env) -> Self {
        Self { state }
    }

    /// `POST /` adds a list of digests. `POST /listed` adds a list of manifests that an index lists. `GET /<digest>` says
    /// whether a digest was added: 200, or 202 for a manifest of which only an index is known.
    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let storage = self.state.storage();
        if request.method() == Method::Post {
            let is_listed = request.path() == LISTED;
            for batch in request.json::<Vec<Digest>>().await?.chunks(BATCH) {
                let entries = Object::new();
                for digest in batch {
                    Reflect::set(
                        &entries,
                        &JsValue::from_str(&digest.hex()),
                        &JsValue::from_bool(!is_listed),
                    )?;
                }
                storage.put_multiple_raw(entries).await?;
            }
            return Ok(Response::empty()?.with_status(204));
        }
        let digest = request.path().trim_start_matches('/').parse::<Digest>();
        let is_noted = match digest {
            Ok(digest) => storage.get::<bool>(&digest.hex()).await?,
            Err(_) => None,
        };
        Ok(Response::empty()?.with_status(match is_noted {
            Some(true) => 200,
            Some(false) => 202,
            None => 404,
        }))
    }
}
