//! `GET /builds/<id>`: how a build stands, as JSON, plain text or Server-Sent Events, whichever is accepted.
//!
//! Here, unlike in error messages, the builders' output is shown.

use super::{App, answer::into_response, authentication};
use crate::waiting::{BuildPage, Progress};
use axum::{
    extract::{Path, Request, State},
    http::header,
    response::{
        IntoResponse, Json, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use firn_shared::oci::error::{ErrorCode, OciError};
use futures::{Stream, stream};
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

/// The page as it is, and again after every change, until the build has ended.
fn events(progress: Progress) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut changes = progress.watch();
    changes.mark_changed();
    let stream = stream::unfold(Some((progress, changes, Duration::ZERO)), |state| async {
        let (progress, mut changes, pause) = state?;
        tokio::time::sleep(pause).await;
        changes.changed().await.expect("whoever watches a build keeps it");
        let ended = progress.has_ended();
        let event = Event::default().json_data(progress.page()).expect("pages have text keys");
        Some((Ok(event), (!ended).then_some((progress, changes, PACE))))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting::{Audience, Client, Phase};
    use axum::body::BodyDataStream;
    use futures::StreamExt;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn next(events: &mut BodyDataStream) -> Option<String> {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("something happens");
        let event = event?.expect("nothing fails");
        Some(String::from_utf8(event.to_vec()).expect("UTF-8"))
    }

    #[tokio::test]
    async fn a_watcher_hears_how_it_is_before_anything_changes() {
        let progress = Progress::new("git".into(), Audience::of(Client::NOBODY));
        let mut events = events(progress.clone()).into_response().into_body().into_data_stream();
        let mut expect = async |phase: &str| {
            let event = next(&mut events).await.expect("an event");
            assert!(event.contains(&format!("\"phase\":\"{phase}\"")), "{event}");
        };
        expect("waiting").await;
        progress.enter(Phase::Resolving);
        expect("resolving").await;
        progress.enter(Phase::Done { digest: String::new() });
        expect("done").await;
        assert_eq!(next(&mut events).await, None);
    }
}
