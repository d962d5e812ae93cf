//! Access control of a private deployment.

use crate::{config::Access, edge::Edge, limit::Limit};
use firn_shared::oci::error::{ErrorCode, OciError};

/// Lets a request in, or asks the client to log in.
///
/// # Errors
/// `UNAUTHORIZED` without a listed name and password; `TOOMANYREQUESTS` for a client that guesses too often.
pub(crate) async fn check(edge: &Edge) -> Result<(), OciError> {
    let Access::Private(credentials) = &edge.config.access else {
        return Ok(());
    };
    let given = edge.header("authorization");
    if credentials.admit(given.as_deref()) {
        return Ok(());
    }
    // A client first asks without credentials, to learn that it needs them. That request is not counted.
    if given.is_some() {
        Limit::Misses.check(edge).await?;
    }
    Err(OciError::new(ErrorCode::Unauthorized, "this registry is private: log in with docker login first"))
}
