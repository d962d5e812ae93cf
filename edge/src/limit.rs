//! Rate limits for each client. Cached answers are never limited.
//!
//! There are two limits, because a site with many machines behind one address asks for the same images, and an
//! attacker asks for new ones:
//!
//! - *look-ups* are requests that read more from KV than the manifest's own key, such as records for composing, or
//!   that need an answer of the backend. This limit is generous, and is checked before anything is read.
//! - *misses* start work at the backend, or guess a password. This limit is strict. Joining a request that is under
//!   way is not a miss.

use crate::edge::Edge;
use firn_shared::{
    link::client_network::ClientNetwork,
    oci::error::{ErrorCode, OciError},
};
use std::net::IpAddr;
use worker::Env;

/// `Retry-After` in seconds: the shortest period that the binding has.
const RETRY_SECONDS: u32 = 10;

/// What is counted. Each limit has a rate-limit binding. Without the binding there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Requests that read records or ask the backend.
    LookUps,
    /// Requests that start work at the backend.
    Misses,
}

impl Limit {
    fn binding(self) -> &'static str {
        match self {
            Self::LookUps => "LOOKUPS",
            Self::Misses => "MISSES",
        }
    }

    /// Counts a request of this client.
    ///
    /// # Errors
    /// `TOOMANYREQUESTS` if the client exceeds the limit.
    pub(crate) async fn check(self, edge: &Edge) -> Result<(), OciError> {
        if self == Self::LookUps && edge.is_counted.get() {
            return Ok(());
        }
        self.check_for(&edge.env, edge.client().as_deref()).await?;
        edge.is_counted.set(edge.is_counted.get() || self == Self::LookUps);
        Ok(())
    }

    /// Counts a request of the client at this address.
    ///
    /// # Errors
    /// See [`Limit::check`].
    pub(crate) async fn check_for(self, env: &Env, client: Option<&str>) -> Result<(), OciError> {
        let Ok(limiter) = env.rate_limiter(self.binding()) else {
            return Ok(());
        };
        let address = client.and_then(|text| text.parse::<IpAddr>().ok());
        let key =
            address.map_or_else(|| "unknown".to_owned(), |address| ClientNetwork::of(address).to_string());
        match limiter.limit(key).await {
            // If the limiter fails, pulls must still work.
            Err(_) => Ok(()),
            Ok(outcome) if outcome.success => Ok(()),
            Ok(_) => Err(OciError::new(
                ErrorCode::Toomanyrequests,
                "too many images at once that are not in the cache; ask again in a moment",
            )
            .retry_after(RETRY_SECONDS)
            .of_client_quota()),
        }
    }
}
