//! Checks that the backends of a private edge refuse clients.
//!
//! Before the first image is served, and again every hour, each isolate sends each backend a cheap unsigned request.
//! A backend that answers it has no secret: any client that finds the backend can pull from it without the password
//! that the edge asks for. The edge then serves nothing, not even from its caches, so that the operator notices.
//!
//! A backend that cannot be reached does not stop the edge from serving its caches. It is checked again once it has
//! answered another request, or after an hour.

use crate::{
    backend, clock,
    config::Access,
    edge::Edge,
    memory::{self, BackendExposure},
    subrequest,
};
use firn_shared::oci::{
    digest::Digest,
    error::{ErrorCode, OciError},
};
use std::rc::Rc;
use worker::{Headers, console_error};

/// How long a result is valid, in seconds.
const COUNTS_SECONDS: u64 = 3600;
/// After how many seconds an open backend is checked again.
const OPEN_SECONDS: u64 = 60;
/// Timeout of the check in milliseconds.
const MILLIS: u64 = 2_000;
/// How often a request checks for the result of another one, in milliseconds.
const STEP_MILLIS: u64 = 50;
/// `Retry-After` in seconds.
const RETRY_SECONDS: u32 = 60;

/// Lets a request to a private edge pass unless a backend is open.
///
/// # Errors
/// `UNAVAILABLE` with a message that says what to configure.
pub(crate) async fn check(edge: &Rc<Edge>) -> Result<(), OciError> {
    if matches!(edge.config.access, Access::Public) {
        return Ok(());
    }
    for backend in &edge.config.backends {
        if exposure(edge, backend.as_str()).await == BackendExposure::Open {
            let message = "this registry is private, but its backend answers everybody: the operator has to give the \
                           backend the secret of the edge (FIRN_SECRET or FIRN_SECRET_FILE)";
            return Err(OciError::new(ErrorCode::Unavailable, message).retry_after(RETRY_SECONDS));
        }
    }
    Ok(())
}

async fn exposure(edge: &Rc<Edge>, backend: &str) -> BackendExposure {
    let age = |since: u64| clock::now().saturating_sub(since);
    match memory::exposure(backend) {
        Some((BackendExposure::Closed, since)) => {
            if age(since) >= COUNTS_SECONDS {
                memory::remember_exposure(backend, BackendExposure::Closed);
                let backend = backend.to_owned();
                edge.later(async move { _ = ask(&backend).await });
            }
            BackendExposure::Closed
        }
        Some((BackendExposure::Open, since)) if age(since) < OPEN_SECONDS => BackendExposure::Open,
        Some((BackendExposure::Unknown, since)) if age(since) < COUNTS_SECONDS => BackendExposure::Unknown,
        // Promises cannot be shared between requests, so poll the result of the other request.
        Some((BackendExposure::Asked, since)) if age(since) * 1000 < MILLIS => {
            for _ in 0..MILLIS / STEP_MILLIS {
                backend::sleep(STEP_MILLIS).await;
                match memory::exposure(backend) {
                    Some((BackendExposure::Asked, _)) => {}
                    found => return found.map_or(BackendExposure::Unknown, |(exposure, _)| exposure),
                }
            }
            BackendExposure::Unknown
        }
        _ => {
            memory::remember_exposure(backend, BackendExposure::Asked);
            ask(backend).await
        }
    }
}

/// Sends a backend a request that it answers at once if it is open: the referrers of a digest.
async fn ask(backend: &str) -> BackendExposure {
    let url = format!("{backend}/v2/firn/referrers/{}", Digest::of(b""));
    let status = match subrequest::to_server("GET", &url, &Headers::new(), None) {
        Ok(request) => backend::fetch_within(MILLIS, request).await.map(|response| response.status_code()),
        Err(error) => Err(error),
    };
    let exposure = match status {
        Ok(200) => BackendExposure::Open,
        // Something in front of the backend may refuse too.
        Ok(..500) => BackendExposure::Closed,
        Ok(_) | Err(_) => BackendExposure::Unknown,
    };
    if exposure == BackendExposure::Open {
        let message = "a backend answers requests that are not signed: set its FIRN_SECRET to the edge's";
        console_error!("{}", serde_json::json!({ "message": message, "backend": backend }));
    }
    memory::remember_exposure(backend, exposure);
    exposure
}
