//! `GET /metrics` in Prometheus' text format.
//!
//! Figures say what a registry is used for, so they are not for everybody: a scraper shows a token, unless the server
//! answers this machine alone.
//!
//! Written by hand while there are so few numbers; a metrics crate earns its place with histograms.

use super::{App, answer::into_response};
use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use firn_shared::{
    Digest,
    oci::error::{ErrorCode, OciError},
};
use std::sync::Arc;

/// Who may read the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAccess {
    /// Everybody: only this machine is listened to, and there is no secret.
    Open,
    /// Nobody: no token has been chosen.
    Closed,
    /// Scrapers that show the token with this digest (`Authorization: Bearer`).
    Bearer(Digest),
}

impl MetricsAccess {
    /// Whether a request with these headers may read them. Digests are compared, so that the time that it takes says
    /// nothing about the token.
    fn admits(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Open => true,
            Self::Closed => false,
            Self::Bearer(expected) => {
                let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                given
                    .and_then(|text| text.strip_prefix("Bearer "))
                    .is_some_and(|token| Digest::of(token.as_bytes()) == *expected)
            }
        }
    }
}

pub(super) async fn get(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if !app.metrics.admits(&headers) {
        let message =
            "the figures of this registry take the token of FIRN_METRICS_TOKEN_FILE: Authorization: Bearer …";
        return into_response(Err(OciError::new(ErrorCode::Denied, message)));
    }
    let text = format!(
        "# HELP firn_nix_processes_total Nix processes started.\n\
         # TYPE firn_nix_processes_total counter\n\
         firn_nix_processes_total {}\n\
         # HELP firn_builds Images that are waiting or being built.\n\
         # TYPE firn_builds gauge\n\
         firn_builds {}\n",
        app.builder.nix().processes(),
        app.builder.building(),
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
