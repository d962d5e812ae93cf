//! Manifests that are ready to be sent: what most pulls begin with is answered without touching the store.
//!
//! What a tag names is looked up for every request all the same (that costs no I/O most of the time), so a
//! manifest is never older than the package set. What the store loses is noticed by [`Store::losses`] where this
//! process removes or misses it, and after a few seconds where another one does.

use super::answer;
use crate::store::Store;
use axum::{body::Body, http::HeaderMap, response::Response};
use bytes::Bytes;
use firn_shared::{
    Digest,
    cache_key::CacheKey,
    link::protocol,
    naming::package_source::Revision,
    oci::{
        endpoint::Method, media_type::ManifestFormat, reference::Tag, repository_name::RepositoryName,
        request::Request, respond,
    },
};
use moka::sync::Cache;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How many bytes of them are kept: some thousand manifests.
const MAX_BYTES: u64 = 16 << 20;
/// What one takes besides its body, in bytes, roughly.
const OVERHEAD: usize = 2 << 10;
/// How long one is kept at most, so that what other processes do to the store is noticed.
const KEPT: Duration = Duration::from_secs(10);

/// What a manifest was asked for by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Asked {
    /// By the tag of a name, in a format.
    Tag(RepositoryName, Tag, ManifestFormat),
    /// By its digest.
    Digest(Digest),
}

/// A manifest, with the headers of its response.
#[derive(Debug)]
pub(super) struct ReadyManifest {
    digest: Digest,
    media_type: &'static str,
    bytes: Bytes,
    /// The revision and the id of the image set that the tag names, if the request was by tag. The edge reads them.
    named: Option<(String, CacheKey)>,
    /// The headers with status 200. They are the same for every request, so they are made once.
    headers: OnceLock<HeaderMap>,
}

/// A manifest that was sent not long ago.
#[derive(Debug)]
struct Kept {
    manifest: ReadyManifest,
    /// The store's losses before the manifest was read from it.
    losses: u64,
    /// Where it was asked for by a tag, what that named, and which image it is.
    named: Option<(Revision, CacheKey)>,
}

/// Manifests that were sent not long ago.
#[derive(Debug, Clone)]
pub struct ReadyManifests(Cache<Asked, Arc<Kept>>);

impl ReadyManifests {
    /// None yet. `grace` is for how long garbage collection leaves alone what was in use a moment ago: what it has
    /// removed is noticed well before its blobs go.
    pub fn new(grace: Duration) -> Self {
        let kept = KEPT.min(grace / 4);
        let weigh = |_: &Asked, kept: &Arc<Kept>| {
            u32::try_from(kept.manifest.bytes.len() + OVERHEAD).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().weigher(weigh).max_capacity(MAX_BYTES).time_to_live(kept).build())
    }

    /// The answer, if it is there and still right: the tag names this revision, and the store has lost nothing.
    pub(super) fn answer(
        &self,
        asked: &Asked,
        revision: Option<&Revision>,
        store: &Store,
        request: &Request<'_>,
    ) -> Option<Response> {
        let kept = self.0.get(asked)?;
        let named = kept.named.as_ref().map(|(revision, _)| revision);
        if named != revision || kept.losses != store.losses() {
            return None;
        }
        if let Some((_, image)) = &kept.named {
            store.note_pull(image);
        }
        Some(kept.manifest.answer(request))
    }

    /// Keeps a manifest. `losses` are the store's from before anything of it was read; `named` is what the tag
    /// named, and which image that is.
    pub(super) fn keep(
        &self,
        asked: Asked,
        manifest: ReadyManifest,
        losses: u64,
        named: Option<(Revision, CacheKey)>,
    ) {
        self.0.insert(asked, Arc::new(Kept { manifest, losses, named }));
    }
}

impl ReadyManifest {
    /// A manifest of this media type. `named` is the revision and the id of the image set that the tag names, if the
    /// request was by tag.
    pub(super) fn new(
        digest: Digest,
        media_type: &'static str,
        bytes: Bytes,
        named: Option<(String, CacheKey)>,
    ) -> Self {
        Self { digest, media_type, bytes, named, headers: OnceLock::new() }
    }

    /// The response to a request.
    pub(super) fn answer(&self, request: &Request<'_>) -> Response {
        if request.has(&self.digest) {
            return self.made(request);
        }
        let headers = self.headers.get_or_init(|| self.made(request).into_parts().0.headers);
        let mut response = Response::new(match request.method {
            Method::Get => Body::from(self.bytes.clone()),
            Method::Head => Body::empty(),
        });
        *response.headers_mut() = headers.clone();
        response
    }

    fn made(&self, request: &Request<'_>) -> Response {
        let (revision, image_set) = self.named.clone().unzip();
        let length = self.bytes.len() as u64;
        let response = respond::manifest(request, &self.digest, self.media_type, length)
            .with_some(protocol::REVISION, revision)
            .with_some(protocol::PACKAGE_SET, image_set.as_ref().map(CacheKey::to_string));
        answer::send_with(response, Body::from(self.bytes.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::HttpBody;
    use firn_shared::oci::{entity_tag::entity_tag, media_type};

    const GRACE: Duration = Duration::from_secs(3600);

    #[test]
    fn ready_manifests_are_kept_for_a_part_of_the_grace_period() {
        let check = |grace: u64, expect: Duration| {
            let manifests = ReadyManifests::new(Duration::from_secs(grace));
            assert_eq!(manifests.0.policy().time_to_live(), Some(expect), "{grace} s");
        };
        check(3600, Duration::from_secs(10));
        check(40, Duration::from_secs(10));
        check(6, Duration::from_millis(1500));
        check(0, Duration::ZERO);
    }

    fn revision(content: &str) -> Revision {
        Revision::Path { content: content.to_owned() }
    }

    fn ready() -> (Digest, ReadyManifest) {
        let (digest, bytes) = (Digest::of(b"manifest"), Bytes::from("manifest"));
        let media_type = media_type::OCI_MANIFEST;
        (digest, ReadyManifest::new(digest, media_type, bytes, None))
    }

    fn request(known: &str) -> Request<'_> {
        let header = |name| (name == "if-none-match").then_some(known.into());
        Request::parse(Method::Get, "/v2/hello/manifests/latest", None, header).expect("a request")
    }

    #[test]
    fn ready_manifests_end_with_their_revision_and_with_losses() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open("memory://", &dir.path().join("staging")).expect("a store");
        let (digest, manifest) = ready();
        let manifests = ReadyManifests::new(GRACE);
        let asked = Asked::Tag("hello".parse().expect("a name"), Tag::default(), ManifestFormat::Oci);
        let image = CacheKey::builder("test").build();
        manifests.keep(asked.clone(), manifest, store.losses(), Some((revision("a"), image)));
        let answer = |asked: &Asked, revision: Option<&Revision>| {
            manifests.answer(asked, revision, &store, &request("\"other\""))
        };
        assert!(answer(&asked, Some(&revision("a"))).is_some());
        assert!(store.is_being_pulled(&image.to_string()), "a pull that touched nothing is a pull");
        assert!(answer(&asked, Some(&revision("b"))).is_none(), "the tag has moved");
        assert!(answer(&Asked::Digest(digest), None).is_none(), "nobody asked for it so");
        store.note_loss();
        assert!(answer(&asked, Some(&revision("a"))).is_none(), "something was lost");
    }

    #[test]
    fn clients_get_the_bytes_unless_they_have_them() {
        let (digest, manifest) = ready();
        let size = |known: &str| manifest.answer(&request(known)).body().size_hint().exact();
        assert_eq!(size("\"other\""), Some(8));
        assert_eq!(size(&entity_tag(&digest)), Some(0));
    }
}
