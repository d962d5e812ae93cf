//! What edge and backend say to each other beyond the registry API: headers on the backend's answers.
//!
//! A manifest (200) carries [`REVISION`] and [`PACKAGE_SET`]. Errors are the registry's own; their
//! [`crate::oci::error::Detail`] says whose quota is used up and which build is running. How the edge proves
//! who it is stands in [`crate::link::authentication`].

use crate::oci::digest::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The revision that an image is from: a commit, or the digest of a path's content.
pub const REVISION: &str = "x-firn-revision";
/// The [`PackageSetToken`] that an image is from.
pub const PACKAGE_SET: &str = "x-firn-package-set";
/// On the edge's requests: the address of the client for whom it asks, so that one who asks for much does not
/// keep the others waiting.
pub const CLIENT: &str = "x-firn-client";
/// On the edge's requests for a manifest: the digest of a blob of it that was not where it should be.
pub const MISSING: &str = "x-firn-missing";
/// What the addresses of builds begin with, at the backend and at the edge; a build's id follows. Messages name
/// these paths.
pub const BUILDS: &str = "/builds/";
/// What begins the address of a report of pulls; see [`pulled_path`]. The answer is a list of those digests whose
/// manifests the backend has no longer, or not for long.
pub const PULLED: &str = "/pulls/";
/// How many manifests are in one report at most: its address has 2 KB then.
pub const MAX_PULLED: usize = 32;
/// Where the edge had an answer from; see [`Source`].
pub const SOURCE: &str = "x-firn-source";

/// A package set in one state, together with the way images are made from it: opaque to the edge, which only
/// compares it. One token and one canonical image name are one image, forever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageSetToken(Box<str>);

/// The address by which the edge reports that it has answered with these manifests, which the backend would not know
/// otherwise. They are part of the address because that is what is signed.
pub fn pulled_path<'a>(manifests: impl IntoIterator<Item = &'a Digest>) -> String {
    let digits: Vec<String> = manifests.into_iter().take(MAX_PULLED).map(Digest::hex).collect();
    format!("{PULLED}{}", digits.join(","))
}

/// The manifests that a report names after [`PULLED`]; none where it is no report, or too long.
pub fn read_pulled(list: &str) -> Option<Vec<Digest>> {
    let manifests: Vec<Digest> = list
        .split(',')
        .take(MAX_PULLED + 1)
        .map(|digits| format!("sha256:{digits}").parse().ok())
        .collect::<Option<_>>()?;
    (manifests.len() <= MAX_PULLED).then_some(manifests)
}

/// A text that is no token: empty, longer than 256 bytes, or with anything but visible ASCII in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a package-set token is 1 to 256 visible ASCII characters")]
pub struct ParseTokenError;

/// Where the edge had an answer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The Cache API: this location's own memory.
    Cache,
    /// Workers KV.
    Kv,
    /// Composed from package records, without the backend.
    Composed,
    /// The backend.
    Backend,
}

impl PackageSetToken {
    const MAX_LEN: usize = 256;

    /// The token as it travels.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageSetToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if valid { Ok(Self(text.into())) } else { Err(ParseTokenError) }
    }
}

impl TryFrom<String> for PackageSetToken {
    type Error = ParseTokenError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PackageSetToken> for String {
    fn from(token: PackageSetToken) -> Self {
        token.0.into()
    }
}

impl Source {
    /// The value of [`SOURCE`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Kv => "kv",
            Self::Composed => "composed",
            Self::Backend => "backend",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_as_they_are_written() {
        let manifests: Vec<Digest> = (0..40u8).map(|n| Digest::of(&[n])).collect();
        let path = pulled_path(&manifests);
        let list = path.strip_prefix(PULLED).expect("a report");
        assert_eq!(read_pulled(list).as_deref(), Some(&manifests[..MAX_PULLED]));
        for garbage in ["", ",", "0a", &format!("{list},{list}"), &list.to_uppercase(), &format!("{list},")] {
            assert_eq!(read_pulled(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn tokens_fit_into_a_header() {
        let check = |text: &str, expect: bool| {
            assert_eq!(text.parse::<PackageSetToken>().is_ok(), expect, "{text:?}");
        };
        check("0123abcd-1", true);
        check(&"a".repeat(256), true);
        for text in ["", " ", "a b", "a\nb", "é", &"a".repeat(257)] {
            check(text, false);
        }
        assert!(serde_json::from_str::<PackageSetToken>("\"a b\"").is_err());
    }
}
