//! `GET /builds/<id>`: how a build stands, as JSON, plain text or Server-Sent Events, whichever is accepted.
//!
//! Here, unlike in error messages, the builders' output is shown.

use super::{App, answer::into_response, authentication};
use crate::build::{BuildPage, Progress};
use axum::{
    extract::{Path, Request, State},
    http::header,
    response::{
        IntoResponse, Json, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use firn_shared::oci_error::{ErrorCode, OciError};
use futures::stream;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// How often a watcher hears of changes at most: Nix's logs can run to thousands of lines a second.
const PACE: Duration = Duration::from_millis(200);

pub(super) async fn get(State(app): State<Arc<App>>, Path(id): Path<String>, request: Request) -> Response {
    let (request, _body) = request.into_parts();
    if let Err(refusal) = authentication::check(app.secret.as_deref(), &request) {
        return into_response(Err(refusal));
    }
    let Some(progress) = app.builder.progress(&id) else {
        let message = "no build of this id is remembered: it ended long ago, or never began";
        return into_response(Err(OciError::new(ErrorCode::ManifestUnknown, message)));
    };
    let accept =
        request.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/event-stream") {
        events(progress).into_response()
    } else if accept.contains("application/json") {
        Json(progress.page()).into_response()
    } else {
        text(&progress.page()).into_response()
    }
}

/// The page again after every change, until the build has ended.
fn events(progress: Progress) -> impl IntoResponse {
    let changes = progress.watch();
    let stream = stream::unfold(Some((progress, changes)), |state| async {
        let (progress, mut changes) = state?;
        let ended = progress.has_ended();
        let event = Event::default().json_data(progress.page()).expect("pages have text keys");
        if ended {
            return Some((Ok::<_, Infallible>(event), None));
        }
        // An error means that the build is gone; its last state was just sent.
        let state = changes.changed().await.ok().map(|()| (progress, changes));
        tokio::time::sleep(PACE).await;
        Some((Ok(event), state))
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

fn text(page: &BuildPage) -> String {
    let mut text = format!("{}: {}\n", page.image, page.summary);
    for (derivation, lines) in page.nix.builds() {
        writeln!(text, "\n{derivation}").expect("writing to a string");
        lines.for_each(|line| writeln!(text, "  {line}").expect("writing to a string"));
    }
    text
}
