//! Finding out what a tag names: from the tag's Durable Object, which asks the backend for all locations
//! (`tag_object`). `tag_pointer` is what a location remembers of it.

use crate::{
    backend, clock,
    config::Config,
    kv_store::KvStore,
    object::{self, ObjectError, Question},
};
use firn_shared::{
    link::{
        protocol::{ImageSetId, PACKAGE_SET, TAGS},
        tag_pointer::TagPointer,
    },
    oci::{
        endpoint::Method,
        error::{ErrorCode, OciError},
        reference::Tag,
    },
};
use worker::wasm_bindgen::JsValue;
use worker::{Env, Headers, console_warn};

/// The binding of the Durable Objects. Without it, every location asks the backend itself.
const BINDING: &str = "TAGS";
/// The header that says when the backend was asked, in seconds since 1970.
pub(crate) const ASKED: &str = "x-firn-asked";
/// How long one backend may take to say what a tag names, in milliseconds.
const BACKEND_MILLIS: u64 = 2_500;
/// How long a client waits for the object, in milliseconds. The object waits a little less for the backends.
const OBJECT_MILLIS: u64 = 5_000;
/// The longest answer of an object, in bytes.
const MAX_BYTES: usize = 4 << 10;

/// What a response of the backend has shown of a tag.
#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    pub(crate) package_set: ImageSetId,
    /// When the backend was asked, in seconds since 1970.
    pub(crate) asked: u64,
}

/// What the tag's object knows. None if nobody has pulled by this tag. `known` is what this location knows.
///
/// # Errors
/// The backend's if the tag does not exist; one that is passing if this cannot be found out now.
pub(crate) async fn ask(
    env: &Env,
    config: &Config,
    tag: &Tag,
    known: Option<&TagPointer>,
) -> Result<Option<TagPointer>, OciError> {
    let question = Question::get(format!("/{tag}"));
    let answer = object::ask(env, config, BINDING, tag.as_str(), &question);
    let mut response = match backend::within(OBJECT_MILLIS, answer).await {
        Some(Ok(response)) => response,
        Some(Err(ObjectError::Unbound)) => return ask_backend(env, config, tag, known).await,
        Some(Err(error)) => return Err(failed(&error.to_string())),
        None => return Err(failed("no answer")),
    };
    match response.status_code() {
        200 => {
            let body = backend::body(&mut response, MAX_BYTES).await.map_err(|error| failed(&error))?;
            serde_json::from_slice(&body).map(Some).map_err(|error| failed(&error.to_string()))
        }
        204 => Ok(None),
        status => {
            let error = backend::read_error(response).await;
            Err(error.unwrap_or_else(|| failed(&format!("status {status}"))))
        }
    }
}

/// What the object would do, where there is none.
async fn ask_backend(
    env: &Env,
    config: &Config,
    tag: &Tag,
    known: Option<&TagPointer>,
) -> Result<Option<TagPointer>, OciError> {
    let store = KvStore::open(env, config);
    let known = match (known, &store) {
        (Some(known), _) => Some(known.clone()),
        (None, Some(store)) => store.pointer(tag).await,
        (None, None) => None,
    };
    // The backend is asked only by a tag that somebody has pulled by.
    let Some(known) = known else { return Ok(None) };
    let learned = sight(config, tag).await?.add_to(Some(known.clone()));
    if let Some(store) = store.filter(|_| learned.lasting() != known.lasting()) {
        store.point(tag, &learned.lasting()).await;
    }
    Ok(Some(learned))
}

/// Tells the tag's object what a response of the backend has shown.
pub(crate) async fn tell(env: &Env, config: &Config, tag: &Tag, sighting: Sighting) {
    let headers = [(PACKAGE_SET, sighting.package_set.to_string()), (ASKED, sighting.asked.to_string())];
    let body = Some(JsValue::from_str(""));
    let question = Question { path: format!("/{tag}"), headers: headers.into(), body };
    match object::ask(env, config, BINDING, tag.as_str(), &question).await {
        Ok(_) => {}
        Err(ObjectError::Unbound) => {
            let Some(store) = KvStore::open(env, config) else { return };
            let known = store.pointer(tag).await;
            let before = known.as_ref().map(TagPointer::lasting);
            let learned = sighting.add_to(known).lasting();
            if before.as_ref() != Some(&learned) {
                store.point(tag, &learned).await;
            }
        }
        // The object asks the backend itself after a while.
        Err(error) => drop(failed(&error.to_string())),
    }
}

/// Asks a backend what a tag names.
///
/// # Errors
/// See [`ask`].
pub(crate) async fn sight(config: &Config, tag: &Tag) -> Result<Sighting, OciError> {
    let asked = clock::now();
    let path = format!("{TAGS}{tag}");
    let question =
        backend::Question { attempt_millis: BACKEND_MILLIS, ..backend::Question::about(Method::Get, &path) };
    let response = backend::response(config, question).await.map_err(|error| match error.code {
        ErrorCode::NameUnknown => failed("the backend is of an older version, which cannot say this"),
        _ => error,
    })?;
    Sighting::of(response.headers(), asked).ok_or_else(|| failed("the backend does not say it"))
}

impl Sighting {
    /// What the headers of a message of the backend, which was asked at this time, or of a flight say.
    pub(crate) fn of(headers: &Headers, asked: u64) -> Option<Self> {
        let package_set = headers.get(PACKAGE_SET).ok()??.parse().ok()?;
        Some(Self { package_set, asked })
    }

    /// What is known after it.
    pub(crate) fn add_to(self, known: Option<TagPointer>) -> TagPointer {
        TagPointer::learn(known, self.package_set, self.asked)
    }
}

/// Logs why it cannot be found out what a tag names. Returns what a client is told.
fn failed(reason: &str) -> OciError {
    console_warn!("{}", serde_json::json!({ "message": "a tag could not be checked", "error": reason }));
    OciError::new(ErrorCode::Unavailable, "what this tag names cannot be found out now; try again later")
        .retry_after(5)
}
