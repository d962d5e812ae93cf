//! Identifiers of documents that depend on nothing but what the documents are about.

use super::DocumentKind;
use crate::{cache_key::CacheKey, image, oci::digest::Digest};

/// Changes when a document about the same image says something else.
const VERSION: &str = "contents-1";

/// A UUID for the document of this kind about a manifest (RFC 9562, version 8: the bits are a hash's).
pub(super) fn uuid(kind: DocumentKind, manifest: &Digest) -> String {
    let key = CacheKey::builder(VERSION)
        .field(image::FORMAT.to_le_bytes())
        .field(kind.media_type())
        .field(manifest.as_bytes())
        .build();
    let mut bytes: [u8; 16] = std::array::from_fn(|i| key.as_bytes()[i]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex::encode(bytes);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_document_has_its_own() {
        let manifests = [Digest::of(b"a"), Digest::of(b"b")];
        let all = manifests.iter().flat_map(|manifest| DocumentKind::ALL.map(|kind| uuid(kind, manifest)));
        let all: BTreeSet<String> = all.collect();
        assert_eq!(all.len(), 6);
        for uuid in all {
            assert_eq!((uuid.len(), &uuid[14..15]), (36, "8"), "{uuid}");
            assert!("89ab".contains(&uuid[19..20]), "{uuid}");
        }
    }
}
