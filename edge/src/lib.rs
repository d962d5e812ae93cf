//! The Cloudflare Worker: a registry that answers from the nearest location, and asks the backend only for images
//! that were never built.
//!
//! It is a thin shell over `firn-shared`, which parses requests and computes cache keys. This crate has the effects:
//! the Cache API, KV, R2, the Durable Object that turns many requests into one, and requests to the backend. Requests
//! share only plain data: a promise of one request must not be awaited by another.

mod access;
mod answer;
mod backend;
mod belonging;
mod blob_cache;
mod blob_location;
mod boarding;
mod cache;
mod caching;
mod clock;
mod compose;
mod config;
mod edge;
mod flight;
mod kv;
mod kv_store;
mod limit;
mod location;
mod lost;
mod manifest;
mod memory;
mod object;
mod observe;
mod probe;
mod pulls;
mod renewal;
mod repository;
mod routes;
mod settle;
mod subrequest;
mod tag;
mod tag_object;
mod tag_pointer;
mod verified;
mod wanted;

use answer::Answer;
use edge::Edge;
use firn_shared::{
    link::protocol::BUILDS,
    oci::{
        endpoint::{Endpoint, Method},
        error::OciError,
        respond,
    },
};
use std::rc::Rc;
use worker::wasm_bindgen::{self, JsValue, prelude::wasm_bindgen};
use worker::{Context, Env, web_sys};

/// Answers a request. Returns a response at once if nothing must be waited for, as when the answer is in the
/// isolate's memory. Otherwise returns a promise.
///
/// # Errors
/// If the runtime refuses to create a response.
#[wasm_bindgen]
pub fn fetch(
    request: web_sys::Request,
    env: Env,
    context: worker::worker_sys::Context,
) -> Result<JsValue, JsValue> {
    settle::settle(Box::pin(handle(request, env, Context::new(context))))
}

async fn handle(request: web_sys::Request, env: Env, context: Context) -> settle::Settled {
    let start = clock::now_millis();
    let method = Method::parse(&request.method());
    let edge = Edge::new(request, env, context);
    let answer = match (method, edge) {
        (Ok(method), Ok(edge)) => {
            let edge = Rc::new(edge);
            let answer = answer::result(method, edge.origin(), respond(&edge, method).await);
            observe::request(&edge, method, &answer, start);
            answer
        }
        (Err(error), Ok(edge)) => {
            let purged = routes::purge(&edge).await;
            answer::result(Method::Get, edge.origin(), purged.unwrap_or_else(|| Err(error.into())))
        }
        (_, Err(error)) => respond::error(Method::Get, &error).into(),
    };
    Ok(answer.into_response()?.into())
}

async fn respond(edge: &Rc<Edge>, method: Method) -> Result<Answer, Failure> {
    let is_health = edge.path() == "/healthz";
    if is_health && edge.query() != Some("deep") {
        return Ok(routes::health(method));
    }
    access::check(edge).await?;
    if is_health {
        return routes::deep_health(edge, method).await;
    }
    probe::check(edge).await?;
    if let Some(id) = edge.path().strip_prefix(BUILDS) {
        return routes::builds(edge, method, id).await;
    }
    let request = &edge.parse(method)?;
    let answer = match &request.endpoint {
        Endpoint::Base => respond::base(method).into(),
        Endpoint::Manifest(name, reference) => routes::manifests(edge, request, name, reference).await?,
        Endpoint::Blob(name, digest) => routes::blobs(edge, request, name, digest).await?,
        Endpoint::Tags(name) => routes::tags(edge, request, name).await?,
        Endpoint::Referrers(name, digest) => routes::referrers(edge, request, name, digest).await?,
    };
    Ok(caching::mark(edge, &request.endpoint, answer))
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The client gets this error.
    #[error("{}", .0.message)]
    Registry(OciError),
    /// The runtime refused an operation that should always work, such as setting a header.
    #[error(transparent)]
    Runtime(#[from] worker::Error),
}

impl From<OciError> for Failure {
    fn from(error: OciError) -> Self {
        Self::Registry(error)
    }
}
