//! Who may pull, when the deployment is private.

use crate::{config::Access, edge::Edge, limit::Limit};
use firn_shared::oci::error::{ErrorCode, OciError};

/// Lets a request in, or asks who it is from.
///
/// # Errors
/// `UNAUTHORIZED` without a name and password that are listed; `TOOMANYREQUESTS` for who guesses too often.
pub(crate) async fn check(edge: &Edge) -> Result<(), OciError> {
    let Access::Private(credentials) = &edge.config.access else {
        return Ok(());
    };
    let given = edge.header("authorization");
    if credentials.admit(given.as_deref()) {
        return Ok(());
    }
    // Clients ask once without saying who they are, to learn that they must.
    if given.is_some() {
        Limit::Misses.check(edge).await?;
    }
    Err(OciError::new(ErrorCode::Unauthorized, "this registry is private: log in with docker login first"))
}
