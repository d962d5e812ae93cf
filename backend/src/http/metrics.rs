//! `GET /metrics` in Prometheus' text format.
//!
//! Written by hand while there are so few numbers; a metrics crate earns its place with histograms.

use super::App;
use axum::{extract::State, http::header, response::IntoResponse};

pub(super) async fn get(State(app): State<App>) -> impl IntoResponse {
    let text = format!(
        "# HELP firn_nix_processes_total Nix processes started.\n\
         # TYPE firn_nix_processes_total counter\n\
         firn_nix_processes_total {}\n",
        app.builder.nix().processes()
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
