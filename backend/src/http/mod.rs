//! The registry over HTTP (distribution spec v1.1.1, pull and discovery).
//!
//! Parse, call the builder or the store, answer. What the API's addresses, headers and errors mean is decided
//! in `firn_shared`, so that the edge answers the same.

mod answer;
mod authentication;
mod blobs;
mod builds;
mod composition;
mod crowd;
mod manifests;
mod metrics;
mod named_set;
mod pace;
mod pulls;
mod ready;
mod referrers;
mod refusal;
mod request_body;
mod server;
mod tags;

pub use metrics::MetricsAccess;
pub use ready::ReadyManifests;
pub(crate) use refusal::refusal;
pub use server::serve;

use crate::{images::Builder, waiting::Client};
use answer::{HandlerResult, into_response, send};
use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, request::Parts},
    response::Response,
    routing::get,
};
use firn_shared::{
    composition::PATH,
    link::{authentication::Secret, protocol},
    oci::{endpoint::Endpoint, respond},
};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};

/// What every request needs.
pub struct App {
    /// Builds images.
    pub builder: Arc<Builder>,
    /// If set, only who knows it is answered.
    pub secret: Option<Arc<Secret>>,
    /// Who may read `/metrics`.
    pub metrics: MetricsAccess,
    /// How long a request waits for its build before the client is told to come back. containerd gives up
    /// after 30 s.
    pub wait: Duration,
    /// Turns true when builds are given up because the server ends, so that nobody is kept waiting.
    pub ending: watch::Receiver<bool>,
    /// Manifests that need not be read from the store.
    pub manifests: ReadyManifests,
}

impl App {
    /// Returns when builds are given up because the server ends.
    async fn ending(&self) {
        // An error means that the server is gone, which is an end too.
        let _ = self.ending.clone().wait_for(|ending| *ending).await;
    }
}

/// The routes.
pub fn router(app: App) -> Router {
    let (version, value) = respond::API_VERSION;
    Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(metrics::get))
        .route("/builds/{id}", get(builds::get))
        .route(&format!("{PATH}{{key}}"), get(composition::get))
        .route(&format!("{}{{digests}}", protocol::PULLED), get(pulls::get))
        .route(&format!("{}{{tag}}", protocol::TAGS), get(named_set::get))
        .method_not_allowed_fallback(registry)
        .fallback(registry)
        .with_state(Arc::new(app))
        .layer(SetResponseHeaderLayer::overriding(
            HeaderName::from_static(version),
            HeaderValue::from_static(value),
        ))
        .layer(CatchPanicLayer::custom(|_| into_response(answer::defect())))
}

/// Whether requests should be sent here.
async fn health(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    match app.builder.is_closed() {
        false => (StatusCode::OK, "ok\n"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "ending\n"),
    }
}

/// Everything under `/v2/`: names have slashes in them, so paths are parsed from the end, by `firn_shared`.
async fn registry(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, content) = request.into_parts();
    request_body::discard(&parts, content).await;
    into_response(answer(&app, &parts).await)
}

async fn answer(app: &App, parts: &Parts) -> HandlerResult {
    let request = &answer::parse(parts)?;
    if request.endpoint != Endpoint::Base {
        authentication::check(app.secret.as_deref(), parts)?;
    }
    match &request.endpoint {
        Endpoint::Base => Ok(send(respond::base(request.method))),
        Endpoint::Manifest(name, reference) => {
            manifests::get(app, request, name, reference, parts, client(app, parts)).await
        }
        Endpoint::Blob(_, digest) => blobs::get(app, request, digest).await,
        Endpoint::Tags(name) => tags::get(app, request, name).await,
        Endpoint::Referrers(name, digest) => {
            referrers::get(app, request, name, digest, client(app, parts)).await
        }
    }
}

/// For whom a request is. Behind an edge all come from the same few addresses, so that it says for whom it asks;
/// nobody else is believed.
fn client(app: &App, request: &Parts) -> Client {
    if app.secret.is_some() {
        let named = request.headers.get(protocol::CLIENT).and_then(|value| value.to_str().ok());
        return named.and_then(|text| text.parse::<IpAddr>().ok()).map_or(Client::NOBODY, Client::at);
    }
    let peer = request.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(Client::NOBODY, |ConnectInfo(address)| Client::at(address.ip()))
}
