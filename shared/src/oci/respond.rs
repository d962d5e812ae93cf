//! The answers of the pull and discovery API (distribution spec v1.1.1) as plain data: which status, which headers, and
//! what the body is. The edge and the backend fetch what an answer needs, and send it; every rule about headers is here.
//!
//! Where the two differ on purpose, the difference is an argument ([`CacheScope`]) or a header of Firn's own
//! ([`Response::with`]).

use crate::oci::{
    byte_range::ByteRange,
    digest::Digest,
    discovery::{TagsPage, referrers_index},
    document::Descriptor,
    endpoint::{Endpoint, Method},
    entity_tag::entity_tag,
    error::{ErrorCode, OciError},
    media_type::{BLOB, JSON, OCI_INDEX},
    reference::Reference,
    request::Request,
};
use std::borrow::Cow;
use std::ops::Range;

/// The header that says that this is a registry (Docker's "HTTP API V2"; some clients insist on it).
pub const API_VERSION: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");
/// How a client that has not said who it is is asked to: by a name and a password (RFC 7617).
pub const CHALLENGE: &str = r#"Basic realm="firn", charset="UTF-8""#;
/// The methods of a registry that is only read.
const METHODS: &str = "GET, HEAD";

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    /// What follows the headers.
    pub body: Body,
}

/// What follows the headers of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// These bytes.
    Bytes(Vec<u8>),
    /// The manifest that the answer is about, which whoever asked for the answer holds.
    Manifest,
    /// A blob, which is to be streamed.
    Blob {
        /// Which one.
        digest: Digest,
        /// The part of it that is sent, in bytes; none when that is all of it.
        range: Option<Range<u64>>,
    },
}

/// Which caches may keep a blob. Clients may always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheScope {
    /// Those on the way, too: everybody may have it.
    Public,
    /// None on the way: not everybody may have it.
    Private,
}

impl Response {
    /// An answer without a body, with the header that all answers have.
    pub fn new(status: u16) -> Self {
        let mut headers = Vec::with_capacity(10);
        headers.push((API_VERSION.0, Cow::Borrowed(API_VERSION.1)));
        Self { status, headers, body: Body::Empty }
    }

    /// The same with a header, whose name must be in lower case and new.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same with a header if there is a value for it.
    pub fn with_some(self, name: &'static str, value: Option<impl Into<Cow<'static, str>>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Whether it has a header of this name.
    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| *known == name)
    }

    /// The headers, each name once and in lower case. `Content-Length` is there unless the status is 304.
    pub fn headers(&self) -> &[(&'static str, Cow<'static, str>)] {
        &self.headers
    }

    /// Ends an answer that has this body, of this length in bytes: a HEAD gets its length alone.
    fn ending(self, method: Method, length: u64, body: Body) -> Self {
        let response = self.with("content-length", length.to_string());
        match method {
            Method::Get => Self { body, ..response },
            Method::Head => response,
        }
    }
}

/// Bytes of a media type.
pub fn bytes(method: Method, content_type: &'static str, bytes: Vec<u8>) -> Response {
    let response = Response::new(200).with("content-type", content_type);
    response.ending(method, bytes.len() as u64, Body::Bytes(bytes))
}

/// An error. It may be over with the next request, so no cache keeps it; without a word, some keep a 404.
pub fn error(method: Method, error: &OciError) -> Response {
    let (status, body) = (error.status(), error.body());
    Response::new(status)
        .with("content-type", JSON)
        .with("cache-control", "no-store")
        .with_some("retry-after", error.retry_after_seconds.map(|seconds| seconds.to_string()))
        .with_some("www-authenticate", (error.code == ErrorCode::Unauthorized).then_some(CHALLENGE))
        .with_some("allow", (status == 405).then_some(METHODS))
        .ending(method, body.len() as u64, Body::Bytes(body))
}

/// `/v2/`: this is a registry.
pub fn base(method: Method) -> Response {
    bytes(method, JSON, b"{}".to_vec())
}

/// `/v2/<name>/manifests/<reference>`: a manifest of `length` bytes, or 304 if the client has it.
pub fn manifest(
    request: &Request<'_>,
    digest: &Digest,
    media_type: impl Into<Cow<'static, str>>,
    length: u64,
) -> Response {
    // A tag stands for a manifest in each format, a digest for one.
    let negotiated = matches!(request.endpoint, Endpoint::Manifest(_, Reference::Tag(_)));
    let describe = |status| {
        Response::new(status)
            .with("docker-content-digest", digest.to_string())
            .with("etag", entity_tag(digest))
            .with_some("vary", negotiated.then_some("accept"))
    };
    if request.has(digest) {
        return describe(304);
    }
    describe(200).with("content-type", media_type).ending(request.method, length, Body::Manifest)
}

/// Sends a client that waits for a build back to where it asked.
pub fn wait_again(location: String) -> Response {
    Response::new(307)
        .with("location", location)
        .with("cache-control", "no-store")
        .with("content-length", "0")
}

/// `/v2/<name>/blobs/<digest>`: a blob of `size` bytes, whole or in part, or 304 if the client has it.
pub fn blob(request: &Request<'_>, digest: &Digest, size: u64, scope: CacheScope) -> Response {
    if let Some(response) = known_blob(request, digest, scope) {
        return response;
    }
    let range = ByteRange::parse(request.range(digest), size);
    let (status, length, part) = match range {
        ByteRange::Whole => (200, size, None),
        ByteRange::Part { start, end } => (206, end - start + 1, Some(start..end + 1)),
        ByteRange::Unsatisfiable => (416, 0, None),
    };
    let response = describe_blob(status, digest, scope).with_some("content-range", range.content_range(size));
    if status == 416 {
        return response.with("content-length", "0");
    }
    let body = Body::Blob { digest: *digest, range: part };
    response.with("content-type", BLOB).ending(request.method, length, body)
}

/// The answer about a blob to a client that has it, if this one does. Its size does not matter then.
pub fn known_blob(request: &Request<'_>, digest: &Digest, scope: CacheScope) -> Option<Response> {
    request.has(digest).then(|| describe_blob(304, digest, scope))
}

/// Sends a client to where a blob is. `seconds` is for how long it may remember that. An address that is signed is for
/// this client alone.
pub fn blob_elsewhere(digest: &Digest, location: String, seconds: u64, scope: CacheScope) -> Response {
    let scope = match scope {
        CacheScope::Public => "public",
        CacheScope::Private => "private",
    };
    Response::new(307)
        .with("location", location)
        .with("docker-content-digest", digest.to_string())
        .with("cache-control", format!("{scope}, max-age={seconds}"))
        .with("content-length", "0")
}

/// Blobs never change. They must arrive as they are, because their digest is over the bytes on the wire.
fn describe_blob(status: u16, digest: &Digest, scope: CacheScope) -> Response {
    let cache_control = match scope {
        // It is about the range, not about the blob.
        _ if status == 416 => "no-store",
        CacheScope::Public => "public, max-age=31536000, immutable, no-transform",
        CacheScope::Private => "private, max-age=31536000, immutable, no-transform",
    };
    Response::new(status)
        .with("docker-content-digest", digest.to_string())
        .with("etag", entity_tag(digest))
        .with("accept-ranges", "bytes")
        .with("cache-control", cache_control)
}

/// `/v2/<name>/tags/list`: a page of tags.
pub fn tags(method: Method, page: TagsPage) -> Response {
    bytes(method, JSON, page.body).with_some("link", page.link)
}

/// `/v2/<name>/referrers/<digest>`: these, of the type that the client asks for. It is there even if there are none.
pub fn referrers(request: &Request<'_>, referrers: &[Descriptor]) -> Response {
    let artifact_type = request.query.media_type("artifactType");
    bytes(request.method, OCI_INDEX, referrers_index(referrers, artifact_type.as_deref()))
        .with_some("oci-filters-applied", artifact_type.map(|_| "artifactType"))
}

#[cfg(test)]
mod tests;
