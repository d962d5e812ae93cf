//! HTTP Basic authentication (RFC 7617) for private registries. `docker login`, containerd, podman and skopeo send it
//! to a registry that asks for it.

use crate::oci::digest::Digest;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The names and passwords with which clients may pull; at least one pair. They are kept as digests of `name:password`,
/// so that the time of a comparison does not tell how much of a guess is right. They are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(BTreeSet<Digest>);

/// The text is not a list of credentials. The error does not repeat the text, which may contain secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a list of name:password, separated by white space")]
pub struct ParseCredentialsError;

impl Credentials {
    /// Whether the value of an `Authorization` header has one of these credentials.
    pub fn admit(&self, authorization: Option<&str>) -> bool {
        let given = authorization.and_then(|value| {
            let (scheme, token) = value.trim().split_once(' ')?;
            let basic = scheme.eq_ignore_ascii_case("basic");
            basic.then(|| BASE64_STANDARD.decode(token.trim()).ok()).flatten()
        });
        given.is_some_and(|pair| self.0.contains(&Digest::of(&pair)))
    }
}

impl FromStr for Credentials {
    type Err = ParseCredentialsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digest = |pair: &str| {
            let (name, password) = pair.split_once(':').ok_or(ParseCredentialsError)?;
            let complete = !name.is_empty() && !password.is_empty();
            complete.then(|| Digest::of(pair.as_bytes())).ok_or(ParseCredentialsError)
        };
        let pairs: BTreeSet<Digest> = text.split_whitespace().map(digest).collect::<Result<_, _>>()?;
        if pairs.is_empty() { Err(ParseCredentialsError) } else { Ok(Self(pairs)) }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_who_is_listed() {
        let credentials: Credentials = " ann:secret\nbob:pass:word ".parse().expect("credentials");
        let check = |scheme: &str, pair: &str, expect: bool| {
            let header = format!("{scheme} {}", BASE64_STANDARD.encode(pair));
            assert_eq!(credentials.admit(Some(&header)), expect, "{header}");
        };
        check("Basic", "ann:secret", true);
        check("basic", "bob:pass:word", true);
        check("Bearer", "ann:secret", false);
        check("Basic", "ann:secret ", false);
        check("Basic", "ann:", false);
        check("Basic", "ann:word", false);
        check("Basic", "bob:pass", false);
        for header in [None, Some(""), Some("Basic"), Some("Basic !"), Some("ann:secret")] {
            assert!(!credentials.admit(header), "{header:?}");
        }
        assert!(!format!("{credentials:?}").contains("secret"));
    }

    #[test]
    fn refuses_what_would_admit_anybody() {
        for text in ["", " ", "ann", "ann:", ":secret", ":", "ann:secret bob"] {
            assert_eq!(text.parse::<Credentials>(), Err(ParseCredentialsError), "{text:?}");
        }
    }
}
