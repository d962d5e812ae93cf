//! Whether the backends of a private edge keep to themselves what the edge does.
//!
//! Each isolate asks each backend something that costs it nothing, unsigned, before the first image goes out, and again
//! every hour. A backend that answers has no secret: whoever finds it pulls from it what the edge asks passwords for.
//! The edge serves nothing then, not even what it has, so that the operator learns of it.
//!
//! A backend that cannot be reached keeps nobody from what is in the caches. It is asked when it has answered something
//! else, or after an hour.

use crate::{
    backend, clock,
    config::Access,
    edge::Edge,
    memory::{self, Standing},
};
use firn_shared::oci::{
    digest::Digest,
    error::{ErrorCode, OciError},
};
use std::rc::Rc;
use worker::{Request, RequestInit, RequestRedirect, console_error};

/// For how long what was found out counts, in seconds.
const COUNTS_SECONDS: u64 = 3600;
/// How soon a backend that is open is asked again, in seconds.
const OPEN_SECONDS: u64 = 60;
/// How long a backend may take, in milliseconds.
const MILLIS: u64 = 2_000;
/// How often a request looks whether another one has found out, in milliseconds.
const STEP_MILLIS: u64 = 50;
/// When clients may ask again, in seconds.
const RETRY_SECONDS: u32 = 60;

/// Lets a request of a private edge go on unless a backend is open.
///
/// # Errors
/// `UNAVAILABLE`, saying what to configure.
pub(crate) async fn check(edge: &Rc<Edge>) -> Result<(), OciError> {
    if matches!(edge.config.access, Access::Public) {
        return Ok(());
    }
    for backend in &edge.config.backends {
        if standing(edge, backend.as_str()).await == Standing::Open {
            let message = "this registry is private, but its backend answers everybody: the operator has to give the \
                           backend the secret of the edge (FIRN_SECRET or FIRN_SECRET_FILE)";
            return Err(OciError::new(ErrorCode::Unavailable, message).retry_after(RETRY_SECONDS));
        }
    }
    Ok(())
}

async fn standing(edge: &Rc<Edge>, backend: &str) -> Standing {
    let age = |since: u64| clock::now().saturating_sub(since);
    match memory::standing(backend) {
        Some((Standing::Closed, since)) => {
            if age(since) >= COUNTS_SECONDS {
                memory::remember_standing(backend, Standing::Closed);
                let backend = backend.to_owned();
                edge.later(async move { _ = ask(&backend).await });
            }
            Standing::Closed
        }
        Some((Standing::Open, since)) if age(since) < OPEN_SECONDS => Standing::Open,
        Some((Standing::Unknown, since)) if age(since) < COUNTS_SECONDS => Standing::Unknown,
        // Promises cannot be shared.
        Some((Standing::Asked, since)) if age(since) * 1000 < MILLIS => {
            for _ in 0..MILLIS / STEP_MILLIS {
                backend::sleep(STEP_MILLIS).await;
                match memory::standing(backend) {
                    Some((Standing::Asked, _)) => {}
                    found => return found.map_or(Standing::Unknown, |(standing, _)| standing),
                }
            }
            Standing::Unknown
        }
        _ => {
            memory::remember_standing(backend, Standing::Asked);
            ask(backend).await
        }
    }
}

/// Asks a backend what it answers at once, if it answers: whether anything refers to a digest.
async fn ask(backend: &str) -> Standing {
    let mut init = RequestInit::new();
    init.with_redirect(RequestRedirect::Manual);
    let url = format!("{backend}/v2/firn/referrers/{}", Digest::of(b""));
    let status = match Request::new_with_init(&url, &init) {
        Ok(request) => backend::fetch_within(MILLIS, request).await.map(|response| response.status_code()),
        Err(error) => Err(error),
    };
    let standing = match status {
        Ok(200) => Standing::Open,
        // Something before it may refuse too.
        Ok(..500) => Standing::Closed,
        Ok(_) | Err(_) => Standing::Unknown,
    };
    if standing == Standing::Open {
        let message = "a backend answers requests that are not signed: set its FIRN_SECRET to the edge's";
        console_error!("{}", serde_json::json!({ "message": message, "backend": backend }));
    }
    memory::remember_standing(backend, standing);
    standing
}
