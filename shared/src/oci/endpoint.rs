//! The pull API's addresses (distribution spec, "Endpoints"), parsed once for both the edge and the backend.
//!
//! Only the path counts: queries such as containerd's `?ns=` are not part of it. A slash in a name may be escaped
//! (`/v2/shell%2Fgit/…`), as some dashboards do; no name has a `%` in it, so that it can mean nothing else. What a name
//! means is not decided here: blobs and manifests asked for by digest need only a well-formed one.

use crate::oci::{
    digest::Digest,
    error::{ErrorCode, OciError},
    escaping::unescaped,
    reference::{ParseReferenceError, Reference},
    repository_name::RepositoryName,
};

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
                // 405 would say that other methods are allowed.
                return Err(OciError::new(
                    ErrorCode::Unsupported,
                    "there is no catalogue: every combination of packages is an image",
                )
                .with_status(404));
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

fn digest(text: &str) -> Result<Digest, OciError> {
    text.parse().map_err(|error: crate::oci::digest::ParseDigestError| {
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
