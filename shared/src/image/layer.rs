//! Layers: which store paths they hold, what they are called before they exist, and what they are after.

use crate::{
    StorePath,
    cache_key::CacheKey,
    nix::closure::ClosurePath,
    oci::{
        digest::{DiffId, Digest, NarHash},
        media_type::LayerCompression,
    },
};
use serde::{Deserialize, Serialize};

/// How layers are encoded: all layers of one image alike, since some clients stumble over a manifest that mixes
/// compressions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerEncoding {
    /// The compression.
    pub compression: LayerCompression,
    /// The encoder's name, version and settings: other settings give other bytes.
    pub identity: String,
}

/// Some store paths that travel together, and the key under which the packed layer is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerPlan {
    /// Depends on the members' contents and on the encoder, and on nothing else: not on the image, so that a
    /// store path is packed once for all images that have it in the same company.
    pub key: CacheKey,
    /// The members, sorted.
    pub paths: Vec<StorePath>,
    /// The digests of their NAR serialisations, in the same order: the contents that the layer has to have.
    pub nar_hashes: Vec<NarHash>,
    /// Their NAR sizes together, in bytes.
    pub nar_size: u64,
}

/// A layer that has been packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Digest of the blob.
    pub digest: Digest,
    /// Digest of the tar inside it.
    pub diff_id: DiffId,
    /// Size of the blob, in bytes.
    pub size: u64,
    /// Size of the tar, in bytes.
    pub uncompressed: u64,
    /// How it is compressed.
    pub compression: LayerCompression,
}

impl LayerPlan {
    /// The plan for these members, to be encoded like this.
    pub fn new<'a>(members: impl IntoIterator<Item = &'a ClosurePath>, encoding: &LayerEncoding) -> Self {
        let mut members: Vec<&ClosurePath> = members.into_iter().collect();
        members.sort_unstable_by_key(|member| &member.path);
        let key = CacheKey::builder("layer-1")
            .field(&encoding.identity)
            .list(members.iter().map(|member| member.path.as_str()))
            .list(members.iter().map(|member| member.nar_hash.as_bytes()))
            .build();
        Self {
            key,
            nar_size: members.iter().map(|member| member.nar_size).sum(),
            nar_hashes: members.iter().map(|member| member.nar_hash).collect(),
            paths: members.into_iter().map(|member| member.path.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A member whose path and content come from small sets, so that two layers differ by little.
    fn member() -> impl Strategy<Value = ClosurePath> {
        ("[ab]{1,2}", "[01]").prop_map(|(name, content)| ClosurePath {
            path: format!("/nix/store/{}-{name}", "0".repeat(32)).parse().expect("a store path"),
            nar_hash: format!("sha256:{}", content.repeat(64)).parse().expect("a hash"),
            nar_size: 1,
            references: Vec::new(),
        })
    }

    fn layer() -> impl Strategy<Value = (Vec<ClosurePath>, LayerEncoding)> {
        // A closure has each path once.
        let members = proptest::collection::vec(member(), 0..4).prop_map(|mut members| {
            members.sort_unstable_by(|a, b| a.path.cmp(&b.path));
            members.dedup_by(|a, b| a.path == b.path);
            members
        });
        let encoding =
            "[ab]{0,2}".prop_map(|identity| LayerEncoding { compression: LayerCompression::Gzip, identity });
        (members, encoding)
    }

    proptest! {
        #[test]
        fn layers_never_share_a_key(a in layer(), b in layer()) {
            let key = |(members, encoding): &(Vec<ClosurePath>, LayerEncoding)| {
                let key = LayerPlan::new(members, encoding).key;
                assert_eq!(LayerPlan::new(members.iter().rev(), encoding).key, key, "the order means nothing");
                key
            };
            prop_assert_eq!(a == b, key(&a) == key(&b), "{:?} {:?}", a, b);
        }
    }
}
