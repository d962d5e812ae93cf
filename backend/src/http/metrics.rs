//! `GET /metrics` in Prometheus' text format.
//!
//! Written by hand while there are so few numbers; a metrics crate earns its place with histograms.

use super::App;
use axum::{extract::State, http::header, response::IntoResponse};
use std::sync::Arc;

pub(super) async fn get(State(app): State<Arc<App>>) -> impl IntoResponse {
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
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
