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
        protocol::{ImageSetId, NamedSet, TAGS},
        tag_pointer::CheckedPointer,
    },
    oci::{
        endpoint::Method,
        error::{ErrorCode, OciError},
        reference::Tag,
    },
};
use serde::{Deserialize, Serialize};
use worker::wasm_bindgen::JsValue;
use worker::{Env, console_warn};

/// The binding of the Durable Objects. Without it, every location asks the backend itself.
const BINDING: &str = "TAGS";
/// How long one backend may take to say what a tag names, in milliseconds.
const BACKEND_MILLIS: u64 = 2_500;
/// How long a client waits for the object, in milliseconds. The object waits a little less for the backends.
const OBJECT_MILLIS: u64 = 5_000;
/// The longest answer of a backend or an object, in bytes.
const MAX_BYTES: usize = 4 << 10;

/// What a response of the backend has shown of a tag.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    known: Option<&CheckedPointer>,
) -> Result<Option<CheckedPointer>, OciError> {
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
    known: Option<&CheckedPointer>,
) -> Result<Option<CheckedPointer>, OciError> {
    let store = KvStore::open(env, config);
    let known = match (known, &store) {
        (Some(known), _) => Some(known.clone()),
        (None, Some(store)) => store.pointer(tag).await.map(CheckedPointer::unchecked),
        (None, None) => None,
    };
    // The backend is asked only by a tag that somebody has pulled by.
    let Some(known) = known else { return Ok(None) };
    let learned = sight(config, tag).await?.add_to(Some(known.clone()));
    if let Some(store) = store.filter(|_| learned.pointer != known.pointer) {
        store.point(tag, &learned.pointer).await;
    }
    Ok(Some(learned))
}

/// Tells the tag's object what a response of the backend has shown.
pub(crate) async fn tell(env: &Env, config: &Config, tag: &Tag, sighting: Sighting) {
    let body = serde_json::to_string(&sighting).expect("texts and numbers serialise");
    let question = Question { body: Some(JsValue::from_str(&body)), ..Question::get(format!("/{tag}")) };
    match object::ask(env, config, BINDING, tag.as_str(), &question).await {
        Ok(_) => {}
        Err(ObjectError::Unbound) => {
            let Some(store) = KvStore::open(env, config) else { return };
            let known = store.pointer(tag).await;
            let learned = sighting.add_to(known.clone().map(CheckedPointer::unchecked));
            if known.as_ref() != Some(&learned.pointer) {
                store.point(tag, &learned.pointer).await;
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
    let mut response = backend::response(config, question).await.map_err(|error| match error.code {
        ErrorCode::NameUnknown => failed("the backend is of an older version, which cannot say this"),
        _ => error,
    })?;
    let body = backend::body(&mut response, MAX_BYTES).await.map_err(|error| failed(&error))?;
    let named: NamedSet = serde_json::from_slice(&body).map_err(|error| failed(&error.to_string()))?;
    Ok(Sighting { package_set: named.package_set, asked })
}

impl Sighting {
    /// What is known after it.
    pub(crate) fn add_to(self, known: Option<CheckedPointer>) -> CheckedPointer {
        CheckedPointer::learn(known, self.package_set, self.asked)
    }
}

/// Logs why it cannot be found out what a tag names. Returns what a client is told.
fn failed(reason: &str) -> OciError {
    console_warn!("{}", serde_json::json!({ "message": "a tag could not be checked", "error": reason }));
    OciError::new(ErrorCode::Unavailable, "what this tag names cannot be found out now; try again later")
        .retry_after(5)
}
