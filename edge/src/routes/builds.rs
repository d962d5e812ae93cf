//! `/builds/<id>`: how a build stands, from the backend that runs it. Its body, which may be a stream of events
//! that goes on for as long as the build, is passed through as it comes.

use crate::{
    Failure,
    answer::Answer,
    backend::{self, Question},
    edge::Edge,
    limit::Limit,
};
use firn_shared::{
    link::protocol::BUILDS,
    oci::{
        endpoint::Method,
        error::{ErrorCode, OciError},
        respond::Response,
    },
};
use worker::ResponseBody;

/// The longest id that is asked for.
const MAX_ID: usize = 128;

/// Answers a request for a build's page.
pub(crate) async fn builds(edge: &Edge, method: Method, id: &str) -> Result<Answer, Failure> {
    let valid = (1..=MAX_ID).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !valid {
        return Err(OciError::new(ErrorCode::ManifestUnknown, "builds have other ids than that").into());
    }
    Limit::LookUps.check(edge).await?;
    let (path, accept) = (format!("{BUILDS}{id}"), edge.accept());
    let question = Question { accept: accept.as_deref(), scattered: true, ..Question::about(method, &path) };
    let response = backend::response(&edge.config, question).await?;
    let header = |name| response.headers().get(name).ok().flatten();
    let answer = Response::new(200)
        .with_some("content-type", header("content-type"))
        .with_some("content-length", header("content-length"))
        .with("cache-control", "no-store");
    Ok(match response.body() {
        ResponseBody::Stream(stream) if method == Method::Get => Answer::with_stream(answer, stream.clone()),
        _ => answer.into(),
    })
}
