//! Who may ask: everybody, or only the edge that knows the secret.

use super::crowd::CountedConnection;
use axum::http::request::Parts;
use firn_shared::{
    link::authentication::{HEADER, Secret},
    oci::{
        endpoint::Method,
        error::{ErrorCode, OciError},
        query::Query,
    },
};
use std::time::{SystemTime, UNIX_EPOCH};

/// The method of a request that only the edge makes, once its proof is checked.
pub(super) fn method_of_edge(secret: Option<&Secret>, request: &Parts) -> Result<Method, OciError> {
    check(secret, request)?;
    Method::parse(request.method.as_str())
}

/// Checks the proof in the header or, for clients that the edge redirected here, in the query.
pub(super) fn check(secret: Option<&Secret>, request: &Parts) -> Result<(), OciError> {
    let Some(secret) = secret else { return Ok(()) };
    let in_header = request.headers.get(HEADER).and_then(|value| value.to_str().ok());
    let in_query = Query::new(request.uri.query()).get(HEADER).map(|value| value.replace("%3A", ":"));
    let proof = in_header.or(in_query.as_deref());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |duration| duration.as_secs());
    secret
        .verify(request.method.as_str(), request.uri.path(), proof, now)
        .map_err(|error| OciError::new(ErrorCode::Denied, error.to_string()))?;
    // A query is what the edge has given to a client.
    if let (Some(connection), Some(_)) = (request.extensions.get::<CountedConnection>(), in_header) {
        connection.is_the_edges();
    }
    Ok(())
}
