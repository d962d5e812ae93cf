//! How often one client may make the edge ask the backend. What is remembered is given to everybody, always.

use crate::edge::Edge;
use firn_shared::oci_error::{ErrorCode, OciError};

/// The rate-limit binding; without it there is no limit.
const BINDING: &str = "MISSES";
/// When a client that asked too often may ask again, in seconds: the shortest period that the binding has.
const RETRY_SECONDS: u32 = 10;

/// Counts one request of this client's that is not answered from what the edge remembers.
///
/// # Errors
/// `TOOMANYREQUESTS` above the limit.
pub(crate) async fn check(edge: &Edge) -> Result<(), OciError> {
    let Ok(limiter) = edge.env.rate_limiter(BINDING) else {
        return Ok(());
    };
    let client = edge.client().unwrap_or_else(|| "unknown".to_owned());
    match limiter.limit(client).await {
        // A limiter that fails must not stop pulls.
        Err(_) => Ok(()),
        Ok(outcome) if outcome.success => Ok(()),
        Ok(_) => Err(OciError::new(
            ErrorCode::Toomanyrequests,
            "too many images at once that are not in the cache; ask again in a moment",
        )
        .retry_after(RETRY_SECONDS)),
    }
}
