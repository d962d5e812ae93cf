//! Sending answers: what they are is said by [`respond`], and here they become axum's.

use crate::waiting::DEFECT;
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header::HeaderName, request::Parts},
    response::Response,
};
use firn_shared::oci::{
    endpoint::Method,
    error::{ErrorCode, OciError},
    request::Request,
    respond,
};
use std::borrow::Cow;

/// What a handler comes to.
pub(super) type HandlerResult = Result<Response, OciError>;

/// Reads a request to the API.
pub(super) fn parse(parts: &Parts) -> Result<Request<'_>, OciError> {
    let method = Method::parse(parts.method.as_str())?;
    Request::parse(method, parts.uri.path(), parts.uri.query(), |name| header(parts, name))
}

/// A header's value; several lines of one name are joined by commas. What is no text is left out.
fn header<'a>(parts: &'a Parts, name: &'static str) -> Option<Cow<'a, str>> {
    let mut lines = parts.headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    let first = lines.next()?;
    Some(lines.fold(first.into(), |joined, line| format!("{joined}, {line}").into()))
}

/// An answer whose body is all there.
pub(super) fn send(response: respond::Response) -> Response {
    send_with(response, Body::empty())
}

/// An answer; `content` is the manifest or the blob that it has in it, if it has one.
pub(super) fn send_with(response: respond::Response, content: Body) -> Response {
    let headers = response.headers().iter().map(|(name, value)| {
        let value = HeaderValue::from_str(value).expect("digests, names, tags and tokens are ASCII");
        (HeaderName::from_static(name), value)
    });
    let (headers, status) = (headers.collect(), StatusCode::from_u16(response.status));
    let mut sent = Response::new(match response.body {
        respond::Body::Empty => Body::empty(),
        respond::Body::Bytes(bytes) => Body::from(bytes),
        respond::Body::Manifest | respond::Body::Blob { .. } => content,
    });
    *sent.status_mut() = status.expect("answers have statuses that exist");
    *sent.headers_mut() = headers;
    sent
}

/// An answer as it goes out. The body of an error is sent to HEAD, too: hyper leaves it out.
pub(super) fn into_response(answer: HandlerResult) -> Response {
    answer.unwrap_or_else(|error| send(respond::error(Method::Get, &error)))
}

/// The answer when a handler panicked.
pub(super) fn defect() -> HandlerResult {
    Err(OciError::new(ErrorCode::Internal, DEFECT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_shared::Digest;

    #[test]
    fn several_lines_of_a_header_are_joined() {
        let digest = Digest::of(b"x");
        let request = axum::http::Request::get(format!("/v2/git/manifests/{digest}"))
            .header("if-none-match", "\"other\"")
            .header("if-none-match", format!("\"{digest}\""));
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        assert!(parse(&parts).expect("a request").has(&digest));
    }
}
