//! The headers and paths that edge and backend use in addition to the registry API.
//!
//! The response to a manifest request (200) has the headers [`REVISION`] and [`PACKAGE_SET`]. Errors use the OCI error
//! format; [`crate::oci::error::Detail`] says whose quota was exceeded and which build is running.
//! [`crate::link::authentication`] describes how the edge signs its requests.

use crate::oci::digest::Digest;
use serde_with::{DeserializeFromStr, SerializeDisplay};
use std::fmt;
use std::str::FromStr;

/// The revision that an image was made from: a commit, or the digest of the content of a local package set.
pub const REVISION: &str = "x-firn-revision";
/// The [`ImageSetId`] that an image was made from.
pub const PACKAGE_SET: &str = "x-firn-package-set";
/// Request header from the edge: the IP address of the client that it asks for. The backend shares its capacity between
/// clients by it.
pub const CLIENT: &str = "x-firn-client";
/// Request header from the edge, on a request for a manifest: the digest of a blob of the image that is missing from
/// storage.
pub const MISSING: &str = "x-firn-missing";
/// The prefix of the path of a build's status, at the backend and at the edge; the build's id follows. Messages contain
/// such paths.
pub const BUILDS: &str = "/builds/";
/// The prefix of the path of a report of pulls; see [`pulled_path`]. The response lists those digests whose manifests
/// the backend no longer has, or will soon remove.
pub const PULLED: &str = "/pulls/";
/// The prefix of the path that says what a tag names; the tag follows. The response has the headers [`REVISION`] and
/// [`PACKAGE_SET`], and says the same in JSON. A tag that does not exist is 404 `MANIFEST_UNKNOWN`.
pub const TAGS: &str = "/tags/";
/// The greatest number of manifests in one report. It limits the path to 2 KB.
pub const MAX_PULLED: usize = 32;
/// Response header from the edge: where the response came from; see [`AnswerSource`].
pub const SOURCE: &str = "x-firn-source";

/// Identifies one state of a package set and the way in which images are made from it. The edge only compares tokens.
/// A token and a canonical image name always identify the same image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct ImageSetId(Box<str>);

/// The path of the request by which the edge reports that clients pulled these manifests. Without reports the backend
/// would not know of pulls that the edge answers. The digests are in the path because the signature covers the path.
pub fn pulled_path<'a>(manifests: impl IntoIterator<Item = &'a Digest>) -> String {
    let digits: Vec<String> = manifests.into_iter().take(MAX_PULLED).map(Digest::hex).collect();
    format!("{PULLED}{}", digits.join(","))
}

/// Parses the digests that follow [`PULLED`] in a report's path. `None` if the list is invalid or has more than
/// [`MAX_PULLED`] digests.
pub fn read_pulled(list: &str) -> Option<Vec<Digest>> {
    let manifests: Vec<Digest> = list
        .split(',')
        .take(MAX_PULLED + 1)
        .map(|digits| format!("sha256:{digits}").parse().ok())
        .collect::<Option<_>>()?;
    (manifests.len() <= MAX_PULLED).then_some(manifests)
}

/// The text is not a token: it is empty, longer than 256 bytes, or has characters other than visible ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an image set id is 1 to 256 visible ASCII characters")]
pub struct ParseImageSetIdError;

/// Where the edge's response came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnswerSource {
    /// Cloudflare's Cache API: the cache of this location.
    Cache,
    /// Workers KV.
    Kv,
    /// Composed from package records, without the backend.
    Composed,
    /// The backend.
    Backend,
}

impl ImageSetId {
    const MAX_LEN: usize = 256;

    /// The token as text, as in [`PACKAGE_SET`].
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageSetId {
    type Err = ParseImageSetIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if valid { Ok(Self(text.into())) } else { Err(ParseImageSetIdError) }
    }
}

impl fmt::Display for ImageSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AnswerSource {
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

impl fmt::Display for AnswerSource {
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
            assert_eq!(text.parse::<ImageSetId>().is_ok(), expect, "{text:?}");
        };
        check("0123abcd-1", true);
        check(&"a".repeat(256), true);
        for text in ["", " ", "a b", "a\nb", "é", &"a".repeat(257)] {
            check(text, false);
        }
        assert!(serde_json::from_str::<ImageSetId>("\"a b\"").is_err());
    }
}
