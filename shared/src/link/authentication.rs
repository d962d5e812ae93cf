//! How the edge proves to the backend that it sent a request.
//!
//! The proof is an HMAC-SHA256 over method, path and time. Its key is a secret that edge and backend share. The time
//! limits how long an attacker can replay an intercepted request. A replay within that time does no harm,
//! because pulls change nothing. The proof does not cover the body, because pulls have none.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// The header that carries the proof.
pub const HEADER: &str = "x-firn-authentication";

/// The greatest difference between the two clocks, and the lifetime of a proof, in seconds.
pub const WINDOW_SECONDS: u64 = 300;

/// The shared secret. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

/// Why a proof is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// The header is missing, or does not have the form `<seconds>:<hex>`.
    #[error("the request carries no proof of coming from the edge")]
    Missing,
    /// The time of the proof differs too much from this machine's clock.
    #[error("the request was signed too long ago: compare the clocks of edge and backend")]
    Expired,
    /// The proof was made with another secret, or for another request.
    #[error("the request was signed with another secret, or for another request")]
    Mismatch,
}

impl Secret {
    /// A secret that consists of these bytes.
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        Self(bytes.as_ref().into())
    }

    fn mac(&self, method: &str, path: &str, seconds: u64) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for field in ["firn-1", method, path] {
            mac.update(&(field.len() as u64).to_le_bytes());
            mac.update(field.as_bytes());
        }
        mac.update(&seconds.to_le_bytes());
        mac
    }

    /// The value of [`HEADER`] for a request at `now` (seconds since 1970).
    pub fn sign(&self, method: &str, path: &str, now: u64) -> String {
        let mac = self.mac(method, path, now).finalize().into_bytes();
        format!("{now}:{}", hex::encode(mac))
    }

    /// Checks the value of [`HEADER`]. The comparison takes constant time.
    ///
    /// # Errors
    /// If the proof is missing or expired, or was made with another secret or for another request.
    pub fn verify(
        &self,
        method: &str,
        path: &str,
        header: Option<&str>,
        now: u64,
    ) -> Result<(), AuthenticationError> {
        let (seconds, mac) =
            header.and_then(|value| value.split_once(':')).ok_or(AuthenticationError::Missing)?;
        let seconds: u64 = seconds.parse().map_err(|_| AuthenticationError::Missing)?;
        let bytes = hex::decode(mac).map_err(|_| AuthenticationError::Missing)?;
        if seconds.abs_diff(now) > WINDOW_SECONDS {
            return Err(AuthenticationError::Expired);
        }
        self.mac(method, path, seconds).verify_slice(&bytes).map_err(|_| AuthenticationError::Mismatch)
    }
}

impl AuthenticationError {
    /// The error with this message; none if it is another's message.
    pub fn of_message(message: &str) -> Option<Self> {
        [Self::Missing, Self::Expired, Self::Mismatch].into_iter().find(|error| error.to_string() == message)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_recognised_by_their_messages() {
        for error in
            [AuthenticationError::Missing, AuthenticationError::Expired, AuthenticationError::Mismatch]
        {
            assert_eq!(AuthenticationError::of_message(&error.to_string()), Some(error));
        }
        assert_eq!(AuthenticationError::of_message("log in first"), None);
    }

    #[test]
    fn a_signature_is_valid_only_for_its_request_and_time() {
        let secret = Secret::new("s3cret");
        let path = "/v2/git/manifests/latest";
        let header = secret.sign("GET", path, 1_000);
        let verify = |secret: &Secret, method, path, header, now| secret.verify(method, path, header, now);
        assert_eq!(verify(&secret, "GET", path, Some(&header), 1_000), Ok(()));
        assert_eq!(verify(&secret, "GET", path, Some(&header), 1_000 + WINDOW_SECONDS), Ok(()));
        let expired = Err(AuthenticationError::Expired);
        assert_eq!(verify(&secret, "GET", path, Some(&header), 1_001 + WINDOW_SECONDS), expired);
        assert_eq!(verify(&secret, "GET", path, Some(&header), 0), expired);
        let mismatch = Err(AuthenticationError::Mismatch);
        assert_eq!(verify(&secret, "HEAD", path, Some(&header), 1_000), mismatch);
        assert_eq!(verify(&secret, "GET", "/v2/x/manifests/latest", Some(&header), 1_000), mismatch);
        assert_eq!(verify(&Secret::new("other"), "GET", path, Some(&header), 1_000), mismatch);
        for garbage in [None, Some(""), Some("1000"), Some("x:00"), Some("1000:zz"), Some("-1:00")] {
            assert_eq!(verify(&secret, "GET", path, garbage, 1_000), Err(AuthenticationError::Missing));
        }
        assert_eq!(verify(&secret, "GET", path, Some("1000:"), 1_000), mismatch);
        assert!(!format!("{secret:?}").contains("s3cret"));
    }
}
