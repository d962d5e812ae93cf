//! A request to the pull API, parsed once into what its answer depends on. The edge and the backend parse alike; where
//! the data of the answer comes from is theirs to find out.

use crate::oci::{
    byte_range::range_that_counts,
    digest::Digest,
    endpoint::{Endpoint, Method},
    entity_tag::is_known,
    error::OciError,
    media_type::ManifestFormat,
    query::Query,
    reference::Reference,
};
use std::borrow::Cow;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// What the client wants done.
    pub method: Method,
    /// What it is about.
    pub endpoint: Endpoint,
    /// The parameters in its URL.
    pub query: Query<'a>,
    /// The format of manifests that the client gets, where it asks by tag. A digest stands for one format.
    pub format: ManifestFormat,
    conditions: Conditions<'a>,
}

/// The headers that make an answer depend on what the client has already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Conditions<'a> {
    if_none_match: Option<Cow<'a, str>>,
    range: Option<Cow<'a, str>>,
    if_range: Option<Cow<'a, str>>,
}

impl<'a> Request<'a> {
    /// Reads a request from its path, its query (without `?`) and its headers.
    ///
    /// `header` gives the value of a header by its name in lower case. Several lines of one name are one list, joined by
    /// commas (RFC 9110, section 5.3). Only headers that the endpoint heeds are asked for, because each costs the edge a
    /// call into JavaScript.
    ///
    /// # Errors
    /// Those of [`Endpoint::parse`].
    pub fn parse(
        method: Method,
        path: &str,
        query: Option<&'a str>,
        header: impl Fn(&'static str) -> Option<Cow<'a, str>>,
    ) -> Result<Self, OciError> {
        let endpoint = Endpoint::parse(path)?;
        let format = match &endpoint {
            Endpoint::Manifest(_, Reference::Tag(_)) => {
                ManifestFormat::negotiate(header("accept").as_deref())
            }
            _ => ManifestFormat::Oci,
        };
        let conditions = match (&endpoint, method) {
            (Endpoint::Blob(..), Method::Get) => Conditions {
                if_none_match: header("if-none-match"),
                range: header("range"),
                if_range: header("if-range"),
            },
            (Endpoint::Manifest(..) | Endpoint::Blob(..), _) => {
                Conditions { if_none_match: header("if-none-match"), ..Conditions::default() }
            }
            _ => Conditions::default(),
        };
        Ok(Self { method, endpoint, query: Query::new(query), format, conditions })
    }

    /// Whether the client has what has this digest, so that 304 is the answer.
    pub fn has(&self, digest: &Digest) -> bool {
        self.conditions.if_none_match.as_deref().is_some_and(|known| is_known(known, digest))
    }

    /// The `Range` header, if it counts for the blob with this digest.
    pub(super) fn range(&self, digest: &Digest) -> Option<&str> {
        let Conditions { range, if_range, .. } = &self.conditions;
        range_that_counts(self.method, range.as_deref(), if_range.as_deref(), digest)
    }

    /// Whether the answer has the whole blob in it, whatever its size. Such a blob can be opened without a look before.
    pub fn takes_whole(&self, digest: &Digest) -> bool {
        self.method == Method::Get && self.range(digest).is_none() && !self.has(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{entity_tag::entity_tag, media_type::DOCKER_MANIFEST};
    use std::cell::RefCell;

    /// A request for this path, and the headers that were looked at.
    fn parse(method: Method, path: &str, headers: &[(&'static str, &str)]) -> (Request<'static>, String) {
        let asked = RefCell::new(Vec::new());
        let header = |name| {
            asked.borrow_mut().push(name);
            let found = headers.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| Cow::Owned((*value).to_owned()))
        };
        let request = Request::parse(method, path, None, header).expect("a request");
        (request, asked.into_inner().join(" "))
    }

    #[test]
    fn reads_the_headers_that_count() {
        let digest = Digest::of(b"x");
        let check = |method, path: &str, expect| assert_eq!(parse(method, path, &[]).1, expect, "{path}");
        check(Method::Get, "/v2/", "");
        check(Method::Get, "/v2/git/tags/list", "");
        check(Method::Get, &format!("/v2/git/referrers/{digest}"), "");
        check(Method::Get, "/v2/git/manifests/latest", "accept if-none-match");
        check(Method::Head, &format!("/v2/git/manifests/{digest}"), "if-none-match");
        check(Method::Get, &format!("/v2/git/blobs/{digest}"), "if-none-match range if-range");
        check(Method::Head, &format!("/v2/git/blobs/{digest}"), "if-none-match");
    }

    #[test]
    fn knows_what_the_client_accepts_and_has() {
        let digest = Digest::of(b"x");
        let tag = entity_tag(&digest);
        let headers = [("accept", DOCKER_MANIFEST), ("if-none-match", tag.as_str())];
        let (request, _) = parse(Method::Get, "/v2/git/manifests/latest", &headers);
        assert_eq!(request.format, ManifestFormat::Docker);
        assert!(request.has(&digest) && !request.has(&Digest::of(b"y")));
    }

    #[test]
    fn knows_whether_a_blob_is_wanted_whole() {
        let digest = Digest::of(b"x");
        let (path, tag) = (format!("/v2/git/blobs/{digest}"), entity_tag(&digest));
        let check = |method, headers: &[(&'static str, &str)], expect| {
            assert_eq!(parse(method, &path, headers).0.takes_whole(&digest), expect, "{headers:?}");
        };
        check(Method::Get, &[], true);
        check(Method::Head, &[], false);
        check(Method::Get, &[("range", "bytes=1-")], false);
        check(Method::Get, &[("range", "bytes=1-"), ("if-range", "\"other\"")], true);
        check(Method::Get, &[("if-none-match", &tag)], false);
        check(Method::Get, &[("if-none-match", "\"other\"")], true);
    }
}
