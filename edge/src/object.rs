//! Requests to Durable Objects.
//!
//! One object answers about 1,000 requests a second. Beyond that it throws errors that say so, and whoever asks anyway
//! keeps it overloaded. A deployment resets all objects; an error from that says that it can be tried again.

use crate::{backend, config::Config, subrequest};
use worker::js_sys::{Math, Reflect};
use worker::wasm_bindgen::JsValue;
use worker::{Env, Headers, Response, Stub};

/// The longest pause before a request is repeated, in milliseconds.
const PAUSE_MILLIS: f64 = 500.0;

/// A request to an object.
pub(crate) struct Question {
    /// The path, which begins with a slash.
    pub(crate) path: String,
    /// The headers.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The body of a POST request. None for GET.
    pub(crate) body: Option<JsValue>,
}

impl Question {
    /// A GET request without headers.
    pub(crate) const fn get(path: String) -> Self {
        Self { path, headers: Vec::new(), body: None }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    /// This deployment has no such objects.
    #[error("there is no Durable Object binding")]
    Unbound,
    /// The object gets more requests than it can answer.
    #[error("a Durable Object is overloaded")]
    Overloaded,
    /// Anything else, such as a reset.
    #[error("{0}")]
    Failed(worker::Error),
}

/// Sends a request to the object of this name, and repeats it once if the object was reset.
///
/// # Errors
/// See [`ObjectError`]. The object's own error responses are answers.
pub(crate) async fn ask(
    env: &Env,
    config: &Config,
    binding: &str,
    name: &str,
    question: &Question,
) -> Result<Response, ObjectError> {
    let send = async || -> Result<Response, ObjectError> {
        let namespace = env.durable_object(binding).map_err(|_| ObjectError::Unbound)?;
        let stub = match &config.location_hint {
            Some(hint) => namespace.get_by_name_with_location_hint(name, hint),
            None => namespace.get_by_name(name),
        };
        request(stub.map_err(ObjectError::Failed)?, question).await.map_err(|error| {
            if says(&error, "overloaded") { ObjectError::Overloaded } else { ObjectError::Failed(error) }
        })
    };
    match send().await {
        // A stub that has failed may be broken, so the second request uses another one.
        Err(ObjectError::Failed(error)) if says(&error, "retryable") => {
            backend::sleep((Math::random() * PAUSE_MILLIS) as u64).await;
            send().await
        }
        answer => answer,
    }
}

async fn request(stub: Stub, question: &Question) -> worker::Result<Response> {
    let headers = Headers::new();
    for (name, value) in &question.headers {
        headers.set(name, value)?;
    }
    let method = if question.body.is_some() { "POST" } else { "GET" };
    let url = format!("https://object{}", question.path);
    let request = subrequest::to_server(method, &url, &headers, question.body.as_ref())?;
    stub.fetch_with_request(request).await
}

/// Whether an exception of the runtime has this flag.
fn says(error: &worker::Error, flag: &str) -> bool {
    let worker::Error::UnknownJsError { original, .. } = error else { return false };
    Reflect::get(original, &JsValue::from_str(flag)).is_ok_and(|value| value.is_truthy())
}
