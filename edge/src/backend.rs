//! Sends requests to the backends, one after the other until one answers, and within the time that clients wait.
//! Requests are signed. Of the client they carry only `Accept` and the address.
//!
//! Each request is made anew rather than passed on, so no hop-by-hop or `X-Forwarded-*` header of the client gets
//! through.

use crate::{
    clock,
    config::Config,
    manifest::{Claims, Fetched},
    memory, subrequest,
};
use firn_shared::{
    link::{
        authentication::{self, AuthenticationError},
        base_url::BaseUrl,
        protocol::{CLIENT, MISSING, PACKAGE_SET, REVISION},
    },
    oci::{
        digest::Digest,
        document,
        endpoint::Method,
        error::{ErrorCode, OciError},
    },
};
use futures_util::{
    TryStreamExt,
    future::{Either, select},
};
use std::future::Future;
use std::pin::pin;
use worker::js_sys::{self, Promise};
use worker::wasm_bindgen::JsCast;
use worker::wasm_bindgen_futures::JsFuture;
use worker::{AbortController, AbortSignal, Fetch, Headers, Request, Response, console_error, web_sys};

/// How long a client waits at most, in milliseconds. A backend answers within 25 s; containerd gives up after 30 s.
pub(crate) const PATIENCE_MILLIS: u64 = 28_000;
const _: () = assert!(25_000 < PATIENCE_MILLIS && PATIENCE_MILLIS < 30_000);
/// Timeout in milliseconds for reading a small blob from storage, or for asking its size.
const STORAGE_MILLIS: u64 = 5_000;
/// The longest error body that is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// `Retry-After` in seconds if no backend answered.
const RETRY_SECONDS: u32 = 5;

/// The result of asking one backend.
enum Attempt<T> {
    /// The answer.
    Answer(T),
    /// An error that every backend would answer.
    Refusal(OciError),
    /// This backend does not have it, but another may.
    Absence(OciError),
    /// No valid answer. Another backend may do better.
    Failure(OciError),
}

/// A request to the backends.
pub(crate) struct Question<'a> {
    /// `GET` or `HEAD`.
    pub(crate) method: Method,
    /// The path, beginning with `/v2/`.
    pub(crate) path: &'a str,
    /// The query, without `?`.
    pub(crate) query: Option<&'a str>,
    /// The `Accept` header: what clients take, or the format that all who wait for the answer take.
    pub(crate) accept: Option<&'a str>,
    /// The client's address. The backend uses it to let clients take turns.
    pub(crate) client: Option<&'a str>,
    /// A blob of the image that is missing from storage.
    pub(crate) missing: Option<Digest>,
    /// Whether another backend may have what one does not.
    pub(crate) scattered: bool,
    /// How long to wait for one backend before asking the next, in milliseconds. Waiting for all of them ends after
    /// [`PATIENCE_MILLIS`].
    pub(crate) attempt_millis: u64,
}

impl<'a> Question<'a> {
    /// A request without query and `Accept`, to which every backend has the same answer.
    pub(crate) fn about(method: Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            query: None,
            accept: None,
            client: None,
            missing: None,
            scattered: false,
            attempt_millis: PATIENCE_MILLIS,
        }
    }
}

/// Fetches a manifest and verifies it.
///
/// # Errors
/// The backend's error; `UNAVAILABLE` if no backend answers properly.
pub(crate) async fn manifest(
    config: &Config,
    question: Question<'_>,
    expected: Option<&Digest>,
) -> Result<Fetched, OciError> {
    let asked = clock::now();
    ask(config, &question, async |response| read_manifest(response, expected, asked).await).await
}

/// Fetches anything else. The response's body is still to be read.
///
/// # Errors
/// See [`manifest`].
pub(crate) async fn response(config: &Config, question: Question<'_>) -> Result<Response, OciError> {
    ask(config, &question, async |response| Ok(response)).await
}

/// Reads a response that carries a manifest, from a backend that was asked at `asked` (seconds since 1970), or from the
/// Durable Object.
///
/// # Errors
/// A line for the log if the response is invalid.
pub(crate) async fn read_manifest(
    mut response: Response,
    expected: Option<&Digest>,
    asked: u64,
) -> Result<Fetched, String> {
    let header = |name| response.headers().get(name).ok().flatten();
    let claims = Claims {
        digest: header("docker-content-digest"),
        content_type: header("content-type"),
        content_length: header("content-length"),
        revision: header(REVISION),
        package_set: header(PACKAGE_SET),
    };
    let bytes = body(&mut response, document::MAX_BYTES).await?;
    Fetched::verify(bytes, claims, expected, asked).map_err(|error| error.to_string())
}

/// Reads an error response.
pub(crate) async fn read_error(mut response: Response) -> Option<OciError> {
    let retry_after = response.headers().get("retry-after").ok().flatten();
    let error = OciError::from_body(&body(&mut response, MAX_ERROR_BYTES).await.ok()?)?;
    Some(match retry_after.and_then(|seconds| seconds.parse().ok()) {
        Some(seconds) => error.retry_after(seconds),
        None => error,
    })
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn body(response: &mut Response, limit: usize) -> Result<Vec<u8>, String> {
    let Ok(stream) = response.stream() else {
        return Ok(Vec::new());
    };
    let add = |mut bytes: Vec<u8>, mut chunk: Vec<u8>| async move {
        if bytes.len() + chunk.len() > limit {
            return Err(worker::Error::RustError(format!("the answer is longer than {limit} bytes")));
        }
        bytes.append(&mut chunk);
        Ok(bytes)
    };
    stream.try_fold(Vec::new(), add).await.map_err(|error| error.to_string())
}

/// Asks one backend after the other.
async fn ask<T>(
    config: &Config,
    question: &Question<'_>,
    read: impl AsyncFn(Response) -> Result<T, String>,
) -> Result<T, OciError> {
    let deadline = clock::now_millis() + PATIENCE_MILLIS;
    let mut failure = None;
    for backend in in_order(&config.backends, question.path) {
        let left = deadline.saturating_sub(clock::now_millis());
        if left == 0 {
            break;
        }
        let controller = AbortController::default();
        let signal = controller.signal();
        let attempt = attempt(config, backend, question, &signal, &read);
        let attempt = match within(left.min(question.attempt_millis), attempt).await {
            Some(attempt) => attempt,
            None => {
                controller.abort();
                Attempt::Failure(taking_long())
            }
        };
        match attempt {
            Attempt::Answer(answer) => {
                memory::mark_up(backend);
                return Ok(answer);
            }
            Attempt::Refusal(error) => {
                memory::mark_up(backend);
                return Err(error);
            }
            Attempt::Absence(error) => {
                memory::mark_up(backend);
                failure.get_or_insert(error);
            }
            Attempt::Failure(error) => {
                memory::mark_down(backend);
                failure = Some(error);
            }
        }
    }
    Err(failure.unwrap_or_else(unavailable))
}

/// Whether a backend answers this edge.
///
/// # Errors
/// What is wrong, in words that everybody may read.
pub(crate) async fn look(config: &Config, backend: &BaseUrl, millis: u64) -> Result<(), String> {
    // The cheapest request that must be signed.
    let path = format!("/v2/firn/referrers/{}", Digest::of(b""));
    let controller = AbortController::default();
    let signal = controller.signal();
    let question = Question::about(Method::Get, &path);
    match within(millis, send(config, backend.as_str(), &question, &signal)).await {
        None => {
            controller.abort();
            Err("does not answer in time".to_owned())
        }
        Some(Err(_)) => Err("cannot be reached".to_owned()),
        Some(Ok(response)) => match response.status_code() {
            200 => Ok(()),
            status @ (401 | 403) => Err(why_refused(status, read_error(response).await)),
            status => Err(format!("answers with status {status}")),
        },
    }
}

async fn attempt<T>(
    config: &Config,
    backend: &str,
    question: &Question<'_>,
    signal: &AbortSignal,
    read: &impl AsyncFn(Response) -> Result<T, String>,
) -> Attempt<T> {
    let failed = |reason: String| {
        let line = serde_json::json!({
            "message": "backend failed", "backend": backend, "path": question.path, "error": reason,
        });
        console_error!("{line}");
        Attempt::Failure(unavailable())
    };
    let response = match send(config, backend, question, signal).await {
        Ok(response) => response,
        Err(error) => return failed(error.to_string()),
    };
    match response.status_code() {
        200 => match read(response).await {
            Ok(answer) => Attempt::Answer(answer),
            Err(reason) => failed(reason),
        },
        status @ (401 | 403) => failed(why_refused(status, read_error(response).await)),
        // The answer to HEAD has no body with a message.
        404 if question.method == Method::Head => {
            Attempt::Absence(OciError::new(ErrorCode::ManifestUnknown, "there is no such build"))
        }
        status => match (read_error(response).await, status) {
            (Some(error), 404) if question.scattered => Attempt::Absence(error),
            (Some(error), 400 | 404 | 405 | 429) => Attempt::Refusal(error),
            // The backend works but cannot serve this now. Another one may.
            (Some(error), 503) => Attempt::Failure(error),
            _ => failed(format!("status {status}")),
        },
    }
}

/// Why a backend answers with 401 or 403, for the operator. A proxy in front of it may refuse, too.
fn why_refused(status: u16, error: Option<OciError>) -> String {
    let error = error.as_ref().and_then(|error| AuthenticationError::of_message(&error.message));
    match error {
        Some(error @ (AuthenticationError::Missing | AuthenticationError::Mismatch)) => {
            format!("{error}: do edge and backend have the same secret?")
        }
        Some(error) => error.to_string(),
        None => format!("status {status}, but not because of a signature: does something else answer there?"),
    }
}

async fn send(
    config: &Config,
    backend: &str,
    question: &Question<'_>,
    signal: &AbortSignal,
) -> worker::Result<Response> {
    let Question { method, path, query, accept, client, missing, .. } = question;
    let headers = Headers::new();
    if let Some(accept) = accept {
        headers.set("accept", accept)?;
    }
    if let Some(client) = client {
        headers.set(CLIENT, client)?;
    }
    if let Some(missing) = missing {
        headers.set(MISSING, &missing.to_string())?;
    }
    if let Some(secret) = &config.secret {
        headers.set(authentication::HEADER, &secret.sign(method.as_str(), path, clock::now()))?;
    }
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let request = subrequest::to_server(method.as_str(), &format!("{backend}{path}{query}"), &headers, None)?;
    Fetch::Request(request).send_with_signal(signal).await
}

/// The result of `work`. None if that takes longer.
pub(crate) async fn within<T>(millis: u64, work: impl Future<Output = T>) -> Option<T> {
    match select(pin!(work), pin!(sleep(millis))).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(_) => None,
    }
}

/// Sends a request to blob storage.
///
/// # Errors
/// If there is no response in time, or the storage cannot be reached.
pub(crate) async fn storage(request: Request) -> worker::Result<Response> {
    fetch_within(STORAGE_MILLIS, request).await
}

/// Sends an unsigned request.
///
/// # Errors
/// If there is no response in time, or the server cannot be reached.
pub(crate) async fn fetch_within(millis: u64, request: Request) -> worker::Result<Response> {
    let controller = AbortController::default();
    let signal = controller.signal();
    match within(millis, Fetch::Request(request).send_with_signal(&signal)).await {
        Some(answer) => answer,
        None => {
            controller.abort();
            Err(worker::Error::RustError("no answer in time".into()))
        }
    }
}

/// Waits. The `worker` crate's own timer wakes the future before it marks the time as over. `settle` polls at once
/// when woken, so it would then wait forever.
pub(crate) async fn sleep(millis: u64) {
    struct Timer(web_sys::WorkerGlobalScope, i32);
    impl Drop for Timer {
        fn drop(&mut self) {
            self.0.clear_timeout_with_handle(self.1);
        }
    }
    let mut timer = Timer(js_sys::global().unchecked_into(), 0);
    let millis = i32::try_from(millis).unwrap_or(i32::MAX);
    let over = Promise::new(&mut |resolve, _| {
        // `setTimeout` fails only if its first argument is not a function.
        let id = timer.0.set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, millis);
        timer.1 = id.unwrap_or_default();
    });
    let _ = JsFuture::from(over).await;
}

/// The backends in the order in which to ask them for a path. The same path prefers the same backend, which then has
/// the data at hand. Backends that failed recently come last.
fn in_order<'a>(backends: &'a [BaseUrl], path: &str) -> Vec<&'a str> {
    let mut order: Vec<&str> = backends.iter().map(BaseUrl::as_str).collect();
    let first = usize::from(Digest::of(path.as_bytes()).as_bytes()[0]) % order.len().max(1);
    order.rotate_left(first);
    order.sort_by_key(|backend| memory::is_down(backend));
    order
}

/// The error for a client that has waited for as long as it may.
pub(crate) fn taking_long() -> OciError {
    let message = "the image is taking long; ask again";
    OciError::new(ErrorCode::Toomanyrequests, message).retry_after(RETRY_SECONDS)
}

fn unavailable() -> OciError {
    OciError::new(
        ErrorCode::Unavailable,
        "this image is not in the cache and no backend can be reached to make it; try again later",
    )
    .retry_after(RETRY_SECONDS)
}
