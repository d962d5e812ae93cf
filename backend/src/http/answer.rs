//! Answers: bodies with their lengths, and errors in the registry's envelope.

use crate::waiting::DEFECT;
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use firn_shared::oci::{
    endpoint::Method,
    error::{ErrorCode, OciError},
    media_type,
};

/// What a handler comes to.
pub(super) type Answer = Result<Response, OciError>;

/// An answer as it goes out.
pub(super) fn into_response(answer: Answer) -> Response {
    answer.unwrap_or_else(|error| {
        let mut response = Response::new(Body::from(error.body()));
        *response.status_mut() =
            StatusCode::from_u16(error.status()).expect("error codes have statuses that exist");
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::JSON));
        if error.code == ErrorCode::Unsupported {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        if let Some(seconds) = error.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    })
}

/// The answer when a handler panicked.
pub(super) fn defect() -> Answer {
    Err(OciError::new(ErrorCode::Internal, DEFECT))
}

/// Bytes of a type; a HEAD gets the length alone.
pub(super) fn json(method: Method, content_type: &'static str, bytes: Vec<u8>) -> Answer {
    let length = bytes.len();
    let body = match method {
        Method::Get => Body::from(bytes),
        Method::Head => Body::empty(),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    Ok(response)
}
