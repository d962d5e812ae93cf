//! How often one client may make the edge work. What is remembered is given to everybody, always.
//!
//! Two limits, because a place with many machines behind one address asks for the same images, and an attacker for
//! new ones:
//!
//! - *look-ups* are requests for which more than the manifest's own key in KV has to be read: records that images are
//!   composed from, or an answer of the backend. Generous, and checked before anything of it is read.
//! - *misses* start something at the backend, or guess a password. Strict. A request that joins what somebody else
//!   has started is none.

use crate::edge::Edge;
use firn_shared::{
    link::client_network::ClientNetwork,
    oci::error::{ErrorCode, OciError},
};
use std::net::IpAddr;
use worker::Env;

/// When a client that asked too often may ask again, in seconds: the shortest period that the binding has.
const RETRY_SECONDS: u32 = 10;

/// What is counted. Each has a rate-limit binding; without it there is no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// Requests for which records or the backend are asked.
    LookUps,
    /// Requests that start something.
    Misses,
}

impl Limit {
    fn binding(self) -> &'static str {
        match self {
            Self::LookUps => "LOOKUPS",
            Self::Misses => "MISSES",
        }
    }

    /// Counts the request of this client.
    ///
    /// # Errors
    /// `TOOMANYREQUESTS` above the limit.
    pub(crate) async fn check(self, edge: &Edge) -> Result<(), OciError> {
        self.check_for(&edge.env, edge.client().as_deref()).await
    }

    /// Counts a request of the client at this address.
    ///
    /// # Errors
    /// As [`Limit::check`].
    pub(crate) async fn check_for(self, env: &Env, client: Option<&str>) -> Result<(), OciError> {
        let Ok(limiter) = env.rate_limiter(self.binding()) else {
            return Ok(());
        };
        let address = client.and_then(|text| text.parse::<IpAddr>().ok());
        let key =
            address.map_or_else(|| "unknown".to_owned(), |address| ClientNetwork::of(address).to_string());
        match limiter.limit(key).await {
            // A limiter that fails must not stop pulls.
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
