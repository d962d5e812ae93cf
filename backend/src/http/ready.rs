//! Manifests that are ready to be sent: what most pulls begin with is answered without touching the store.
//!
//! What a tag names is looked up for every request all the same (that costs no I/O most of the time), so a
//! manifest is never older than the package set. What the store loses is noticed by [`Store::losses`] where this
//! process removes or misses it, and after a few seconds where another one does.

use crate::store::Store;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use firn_shared::{
    Digest,
    cache_key::CacheKey,
    naming::package_source::Revision,
    oci::{
        endpoint::Method,
        entity_tag::{entity_tag, is_known},
        media_type::ManifestFormat,
        reference::Tag,
        repository_name::RepositoryName,
    },
};
use moka::sync::Cache;
use std::sync::Arc;
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

/// A manifest, with all that is said beside it.
#[derive(Debug)]
pub(super) struct ReadyManifest {
    digest: Digest,
    headers: HeaderMap,
    bytes: Bytes,
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
        method: Method,
        headers: &HeaderMap,
    ) -> Option<Response> {
        let kept = self.0.get(asked)?;
        let named = kept.named.as_ref().map(|(revision, _)| revision);
        if named != revision || kept.losses != store.losses() {
            return None;
        }
        if let Some((_, image)) = &kept.named {
            store.note_pull(image);
        }
        Some(kept.manifest.answer(method, headers))
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
    /// A manifest of this type.
    pub(super) fn new(digest: Digest, content_type: &'static str, bytes: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_LENGTH, bytes.len().into());
        let mut manifest = Self { digest, headers, bytes };
        manifest.say(HeaderName::from_static("docker-content-digest"), &digest.to_string());
        manifest.say(header::ETAG, &entity_tag(&digest));
        manifest
    }

    /// Says something beside it, in ASCII.
    pub(super) fn say(&mut self, name: HeaderName, value: &str) {
        let value = HeaderValue::from_str(value).expect("digests, revisions and tokens are ASCII");
        self.headers.insert(name, value);
    }

    /// What a request with these headers gets.
    pub(super) fn answer(&self, method: Method, headers: &HeaderMap) -> Response {
        let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let is_known = known.is_some_and(|known| is_known(known, &self.digest));
        let mut response = Response::new(match method {
            Method::Get if !is_known => Body::from(self.bytes.clone()),
            Method::Get | Method::Head => Body::empty(),
        });
        *response.headers_mut() = self.headers.clone();
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(3600);

    #[test]
    fn are_kept_for_a_small_part_of_the_grace_period() {
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
        let digest = Digest::of(b"manifest");
        let manifest = ReadyManifest::new(digest, ManifestFormat::Oci.manifest(), Bytes::from("manifest"));
        (digest, manifest)
    }

    #[test]
    fn answers_only_what_is_still_right() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open("memory://", &dir.path().join("staging")).expect("a store");
        let (digest, manifest) = ready();
        let manifests = ReadyManifests::new(GRACE);
        let asked = Asked::Tag("hello".parse().expect("a name"), Tag::default(), ManifestFormat::Oci);
        let image = CacheKey::builder("test").build();
        manifests.keep(asked.clone(), manifest, store.losses(), Some((revision("a"), image)));
        let answer = |asked: &Asked, revision: Option<&Revision>| {
            manifests.answer(asked, revision, &store, Method::Get, &HeaderMap::new())
        };
        assert!(answer(&asked, Some(&revision("a"))).is_some());
        assert!(store.is_being_pulled(&image.to_string()), "a pull that touched nothing is a pull");
        assert!(answer(&asked, Some(&revision("b"))).is_none(), "the tag has moved");
        assert!(answer(&Asked::Digest(digest), None).is_none(), "nobody asked for it so");
        store.note_loss();
        assert!(answer(&asked, Some(&revision("a"))).is_none(), "something was lost");
    }

    #[test]
    fn knows_what_clients_have() {
        let (digest, manifest) = ready();
        let answer = |method, tag: &str| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag.parse().expect("a value"))]);
            let answer = manifest.answer(method, &headers);
            let length =
                answer.headers().get(header::CONTENT_LENGTH).map(|length| length.to_str().map(str::to_owned));
            (answer.status().as_u16(), length.map(|length| length.expect("a number")))
        };
        let size = Some("8".to_owned());
        assert_eq!(answer(Method::Get, "\"other\""), (200, size.clone()));
        assert_eq!(answer(Method::Head, "\"other\""), (200, size));
        assert_eq!(answer(Method::Get, &entity_tag(&digest)), (304, None));
    }
}
