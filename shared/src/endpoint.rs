//! The pull API's addresses (distribution spec, "Endpoints"), parsed once for both the edge and the backend.
//!
//! Only the path counts: queries such as containerd's `?ns=` are not part of it. A slash in a name may be escaped
//! (`/v2/shell%2Fgit/…`), as some dashboards do; no name has a `%` in it, so that it can mean nothing else. What an image name means is
//! not decided here, because blobs and manifests asked for by digest need only a name that is well-formed:
//! see [`RepositoryName::image`].

use crate::{
    digest::Digest,
    image_name::{ImageName, MAX_NAME_LEN},
    oci_error::{ErrorCode, OciError},
    package_name::is_component,
    reference::{ParseReferenceError, Reference},
};
use std::fmt;
use std::str::FromStr;

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v2/`: whether this is a registry.
    Base,
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
}

/// What a client wants done: this registry is only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Headers and body.
    Get,
    /// Headers alone.
    Head,
}

/// A well-formed name, `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/…)*`, of at most [`MAX_NAME_LEN`] bytes
/// (distribution spec, "Pulling manifests").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Box<str>);

/// A text that no repository can be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an image name: components of lower-case letters and digits, joined by '.', '_', '__' or '-' and \
     separated by '/', at most {MAX_NAME_LEN} characters in all"
)]
pub struct ParseRepositoryNameError(String);

impl Endpoint {
    /// Reads a request's path.
    ///
    /// # Errors
    /// `NAME_INVALID` for a name that is not well-formed, `DIGEST_INVALID` for a digest that is none,
    /// `MANIFEST_UNKNOWN` for a tag that cannot exist, `UNSUPPORTED` for `_catalog`, and `NAME_UNKNOWN` for
    /// a path that the API does not have.
    pub fn parse(path: &str) -> Result<Self, OciError> {
        let unknown = || OciError::new(ErrorCode::NameUnknown, "the registry API has no such path");
        let Some(rest) = path.strip_prefix("/v2/") else {
            return if path == "/v2" { Ok(Self::Base) } else { Err(unknown()) };
        };
        match rest {
            "" => return Ok(Self::Base),
            "_catalog" => {
                return Err(OciError::new(
                    ErrorCode::Unsupported,
                    "there is no catalogue: every combination of packages is an image",
                ));
            }
            _ => {}
        }
        // From the end, since `manifests`, `blobs` and `tags` may be components of a name too.
        let mut parts = rest.rsplitn(3, '/');
        let (last, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let name = parts.next().unwrap_or_default();
        let name = || unescaped(name, "/", "%2F").parse::<RepositoryName>().map_err(OciError::from);
        // Some HTTP libraries escape the colon.
        let last = unescaped(last, ":", "%3A");
        match kind {
            "manifests" => Ok(Self::Manifest(name()?, last.parse().map_err(reference_error)?)),
            "blobs" => Ok(Self::Blob(name()?, digest(&last)?)),
            "referrers" => Ok(Self::Referrers(name()?, digest(&last)?)),
            "tags" if last == "list" => Ok(Self::Tags(name()?)),
            _ => Err(unknown()),
        }
    }
}

impl Method {
    /// Reads a request's method.
    ///
    /// # Errors
    /// `UNSUPPORTED` for anything but `GET` and `HEAD`.
    pub fn parse(text: &str) -> Result<Self, OciError> {
        match text {
            "GET" => Ok(Self::Get),
            "HEAD" => Ok(Self::Head),
            _ => Err(OciError::new(
                ErrorCode::Unsupported,
                "images are made on request and cannot be pushed, changed or deleted",
            )),
        }
    }

    /// As HTTP writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
        }
    }
}

impl RepositoryName {
    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The image that the name asks for.
    ///
    /// # Errors
    /// `NAME_INVALID` when it asks for none.
    pub fn image(&self) -> Result<ImageName, OciError> {
        self.0.parse().map_err(|error: crate::image_name::ParseImageNameError| {
            OciError::new(ErrorCode::NameInvalid, error.to_string())
        })
    }
}

impl FromStr for RepositoryName {
    type Err = ParseRepositoryNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() <= MAX_NAME_LEN && text.split('/').all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(ParseRepositoryNameError(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ParseRepositoryNameError> for OciError {
    fn from(error: ParseRepositoryNameError) -> Self {
        Self::new(ErrorCode::NameInvalid, error.to_string())
    }
}

/// A text in which a character may be escaped, with upper-case or lower-case digits.
fn unescaped(text: &str, character: &str, escape: &str) -> String {
    text.replace(escape, character).replace(&escape.to_lowercase(), character)
}

fn digest(text: &str) -> Result<Digest, OciError> {
    text.parse().map_err(|error: crate::digest::ParseDigestError| {
        OciError::new(ErrorCode::DigestInvalid, error.to_string())
    })
}

fn reference_error(error: ParseReferenceError) -> OciError {
    let code = match error {
        ParseReferenceError::Digest(_) => ErrorCode::DigestInvalid,
        ParseReferenceError::Tag(_) => ErrorCode::ManifestUnknown,
    };
    OciError::new(code, error.to_string())
}

#[cfg(test)]
mod tests;
