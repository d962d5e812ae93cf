//! What follows the image name: a tag or a digest.

use crate::oci::digest::{Digest, ParseDigestError};
use std::fmt;
use std::str::FromStr;

/// The longest tag, in bytes (distribution spec, "Pulling manifests").
const MAX_TAG_LEN: usize = 128;

/// A tag, `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. What it means depends on the package source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

/// A manifest as a client names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By tag; what it names can change.
    Tag(Tag),
    /// By content.
    Digest(Digest),
}

/// Why a text is neither a tag nor a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    /// It has a colon, so it means to be a digest, but is none.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    /// It is no tag.
    #[error(
        "{0:?} is not a tag: at most 128 of letters, digits, '_', '.' and '-', not beginning with '.' or '-'"
    )]
    Tag(String),
}

impl Tag {
    /// The tag that clients send when the user gives none.
    pub const LATEST: &str = "latest";

    /// The tag as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The manifest whose referrers clients ask for by this tag: `sha256-<64 digits>` (distribution spec v1.1.1,
    /// "Referrers Tag Schema").
    pub fn subject(&self) -> Option<Digest> {
        format!("sha256:{}", self.0.strip_prefix("sha256-")?).parse().ok()
    }

    /// Whether clients put this tag on what belongs to an image rather than on an image: `sha256-<64 digits>`, the
    /// fallback for registries without referrers (distribution spec v1.1.1, "Referrers Tag Schema"), or the same
    /// with an ending, as cosign's `.sig`, `.att` and `.sbom`. Verifiers ask for it at each pull.
    pub fn is_of_referrers(&self) -> bool {
        const DIGITS: usize = 64;
        let Some((digits, ending)) =
            self.0.strip_prefix("sha256-").and_then(|rest| rest.split_at_checked(DIGITS))
        else {
            return false;
        };
        let is_digit = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
        digits.bytes().all(is_digit) && (ending.is_empty() || ending.starts_with('.'))
    }

    /// Whether this is `latest`.
    pub fn is_latest(&self) -> bool {
        &*self.0 == Self::LATEST
    }
}

impl Default for Tag {
    fn default() -> Self {
        Self(Self::LATEST.into())
    }
}

impl FromStr for Tag {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let valid = text.len() <= MAX_TAG_LEN
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(ParseReferenceError::Tag(text.chars().take(40).collect()))
        }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_tags_from_digests() {
        assert_eq!("latest".parse(), Ok(Reference::Tag(Tag::default())));
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse(), Ok(Reference::Digest(digest)));
    }

    #[test]
    fn knows_the_tags_of_referrers() {
        let check = |text: &str, expect: bool| {
            let tag: Tag = text.parse().expect("a tag");
            assert_eq!(tag.is_of_referrers(), expect, "{text}");
        };
        let digest = Digest::of(b"x").to_string().replace(':', "-");
        check(&digest, true);
        let subject = |text: &str| text.parse::<Tag>().expect("a tag").subject();
        assert_eq!(subject(&digest), Some(Digest::of(b"x")));
        assert_eq!(
            (subject(&format!("{digest}.sig")), subject("latest"), subject("sha256-")),
            (None, None, None)
        );
        for ending in [".sig", ".att", ".sbom"] {
            check(&format!("{digest}{ending}"), true);
        }
        check(&format!("{digest}0"), false);
        check(&digest[..70], false);
        check(&digest.to_uppercase(), false);
        check("sha256-tools", false);
        check("latest", false);
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            ".",
            "-latest",
            "..",
            "a/b",
            "a b",
            "a\n",
            "é",
            "sha256:",
            "sha256:zz",
            "md5:00",
            &"a".repeat(129),
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
        assert!("a".repeat(128).parse::<Tag>().is_ok());
    }
}
