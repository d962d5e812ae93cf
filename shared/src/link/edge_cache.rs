//! The entries of the edge's caches: their keys, their formats, and how long they are valid.
//!
//! - A *tag pointer* says which package set a tag names ([`crate::link::tag_pointer`]). Only this entry changes.
//! - A *manifest* has two keys: its digest, and its package set with the canonical image name. Both always identify the
//!   same manifest.
//! - The edge also keeps the records from which images are composed ([`crate::composition`]), and for each image name
//!   the
//!   tags for which it has answered without the backend.
//!
//! This module does not read or write the caches.

use crate::{
    cache_key::CacheKey,
    link::protocol::ImageSetId,
    naming::image_name::ImageName,
    oci::{digest::Digest, media_type::ManifestFormat, reference::Tag},
};
use serde::{Deserialize, Serialize};

/// The metadata that is stored with a manifest; at most 1 KiB as JSON (Workers KV's limit for metadata).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestMetadata {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// The revision of the package set that it was made from; see [`crate::link::protocol::REVISION`].
    pub revision: Option<String>,
    /// When it was stored, in seconds since 1970.
    pub created: u64,
    /// Whether an edge composed it. If so, the backend may not know it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub composed: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl ManifestMetadata {
    /// Whether the entry should be written again at `now` (seconds since 1970), because it is kept for `ttl_seconds` and
    /// half of that has passed. `late` seconds more differ between isolates.
    pub fn is_due(&self, now: u64, ttl_seconds: u64, late: u64) -> bool {
        now.saturating_sub(self.created) > (ttl_seconds / 2).saturating_add(late)
    }
}

/// The key of the manifest of an image of a package set.
pub fn manifest_key(package_set: &ImageSetId, name: &ImageName, format: ManifestFormat) -> CacheKey {
    CacheKey::builder("manifest-1")
        .field(package_set.as_str())
        .field(name.to_string())
        .field(format.manifest())
        .build()
}

/// The key of the manifest with this digest.
pub fn digest_key(digest: &Digest) -> CacheKey {
    CacheKey::builder("digest-1").field(digest.as_bytes()).build()
}

/// The prefix of the keys that list the tags of an image name for which an edge has answered without the backend; the
/// tag follows. Each tag has an entry of its own, so that no tag is lost if two locations write at the same time.
pub fn tags_prefix(name: &ImageName) -> String {
    format!("{}/", CacheKey::builder("tags-1").field(name.to_string()).build())
}

/// The key of the note that an edge has stored the blob with this digest.
pub fn composed_blob_key(digest: &Digest) -> CacheKey {
    CacheKey::builder("composed-blob-1").field(digest.as_bytes()).build()
}

/// The key of a request for a manifest by tag. It contains everything in the request that can change the response. It
/// names the Durable Object that asks the backend, and the response in short-lived caches.
pub fn request_key(name: &ImageName, tag: &Tag, format: ManifestFormat) -> CacheKey {
    CacheKey::builder("request-1")
        .field(name.to_string())
        .field(tag.as_str())
        .field(format.manifest())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::tag_pointer::TagPointer;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn tag(text: &str) -> Tag {
        text.parse().expect("a tag")
    }

    #[test]
    fn every_difference_has_its_own_key() {
        let name = |text: &str| text.parse::<ImageName>().expect("an image name");
        let token = |text: &str| text.parse::<ImageSetId>().expect("a token");
        let (oci, docker) = (ManifestFormat::Oci, ManifestFormat::Docker);
        let keys = [
            manifest_key(&token("a"), &name("git"), oci),
            manifest_key(&token("b"), &name("git"), oci),
            manifest_key(&token("a"), &name("git"), docker),
            manifest_key(&token("a"), &name("arm64/git"), oci),
            manifest_key(&token("a"), &name("shell/git"), oci),
            manifest_key(&token("ag"), &name("it"), oci),
            request_key(&name("git"), &tag("a"), oci),
            request_key(&name("git"), &tag("a"), docker),
            request_key(&name("git"), &tag("b"), oci),
            digest_key(&Digest::of(b"a")),
            digest_key(&Digest::of(b"b")),
            composed_blob_key(&Digest::of(b"a")),
            TagPointer::key(&tag("a")),
            TagPointer::key(&tag("b")),
        ];
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
        // Image names with the same meaning share a key.
        assert_eq!(
            manifest_key(&token("a"), &name("git/htop"), oci),
            manifest_key(&token("a"), &name("htop/git"), oci)
        );
    }

    /// Image names that are easily confused, such as one that is another with a separator moved.
    fn image_name() -> impl Strategy<Value = ImageName> {
        let text = "(arm64/|amd64/|shell/|user/|debug/){0,2}[ab]{1,2}([./-][ab]{1,2}){0,3}";
        text.prop_filter_map("two platforms", |text| text.parse().ok())
    }

    fn format() -> impl Strategy<Value = ManifestFormat> {
        prop_oneof![Just(ManifestFormat::Oci), Just(ManifestFormat::Docker)]
    }

    proptest! {
        #[test]
        fn manifests_and_requests_never_share_a_key(
            a in ("[ab/:]{1,3}", image_name(), format()),
            b in ("[ab/:]{1,3}", image_name(), format()),
        ) {
            let manifest = |(set, name, format): &(String, ImageName, ManifestFormat)| {
                manifest_key(&set.parse().expect("a token"), name, *format)
            };
            prop_assert_eq!(a == b, manifest(&a) == manifest(&b), "{:?} {:?}", a, b);
            let request = |(tag, name, format): &(String, ImageName, ManifestFormat)| {
                // Replaces the characters that a tag cannot have with letters that no other tag here has.
                request_key(name, &tag.replace('/', "x").replace(':', "y").parse().expect("a tag"), *format)
            };
            prop_assert_eq!(a == b, request(&a) == request(&b), "{:?} {:?}", a, b);
            prop_assert_ne!(manifest(&a), request(&a));
        }
    }

    #[test]
    fn entries_are_renewed_in_the_second_half_of_their_time() {
        let metadata = ManifestMetadata {
            digest: Digest::of(b"x"),
            media_type: String::new(),
            revision: None,
            created: 1_000,
            composed: false,
        };
        for (now, late, expect) in
            [(0, 0, false), (1_500, 0, false), (1_501, 0, true), (1_501, 200, false), (1_701, 200, true)]
        {
            assert_eq!(metadata.is_due(now, 1_000, late), expect, "{now} {late}");
        }
    }

    #[test]
    fn what_is_stored_fits_and_is_checked_when_read() {
        let metadata = ManifestMetadata {
            digest: Digest::of(b"x"),
            media_type: crate::oci::media_type::DOCKER_MANIFEST.into(),
            revision: Some("0".repeat(64)),
            created: u64::MAX,
            composed: true,
        };
        let json = serde_json::to_string(&metadata).expect("serialises");
        assert!(json.len() <= 1024);
        assert_eq!(serde_json::from_str::<ManifestMetadata>(&json).expect("parses"), metadata);
        assert!(serde_json::from_str::<ManifestMetadata>(&json.replace("sha256:", "md5:")).is_err());
    }
}
