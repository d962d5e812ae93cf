//! Access control of a private deployment.

use crate::{config::Access, edge::Edge, limit::Limit};
use firn_shared::{
    link::base_url::gets_credentials_of,
    oci::error::{ErrorCode, OciError},
};
use std::net::IpAddr;

/// Lets a request in, or asks the client to log in.
///
/// # Errors
/// `UNAUTHORIZED` without a listed name and password; `TOOMANYREQUESTS` for a client that guesses too often; `INTERNAL`
/// if clients would give their password away.
pub(crate) async fn check(edge: &Edge) -> Result<(), OciError> {
    let Access::Private(credentials) = &edge.config.access else {
        return Ok(());
    };
    let given = edge.header("authorization");
    if credentials.admit(given.as_deref()) {
        return check_redirects(edge);
    }
    // A client first asks without credentials, to learn that it needs them. That request is not counted.
    if given.is_some() {
        Limit::Misses.check(edge).await?;
    }
    Err(OciError::new(ErrorCode::Unauthorized, "this registry is private: log in with docker login first"))
}

/// Refuses to send clients to a place to which they would send the password, too.
fn check_redirects(edge: &Edge) -> Result<(), OciError> {
    let host = edge.host();
    // On one machine, everything has the same name.
    let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match edge.config.blobs.host() {
        Some(to) if !is_local && gets_credentials_of(host, to) => Err(OciError::new(
            ErrorCode::Internal,
            "this registry is private, but its blobs are at a subdomain of it, to which clients send their password, \
             too: the operator has to set FIRN_BLOBS_URL to another domain, or FIRN_BLOBS to r2",
        )),
        _ => Ok(()),
    }
}
