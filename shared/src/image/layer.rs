//! Layers of store paths: the plan before a layer is packed, and the record after.

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

/// How layers are encoded. All layers of store paths in an image have the same encoding, because some clients cannot
/// handle a manifest with mixed compressions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerEncoding {
    /// The compression.
    pub compression: LayerCompression,
    /// The encoder's name, version and settings. Other settings give other bytes.
    pub identity: String,
}

/// The store paths of a layer, and the key of the layer's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerPlan {
    /// The key of the layer's [`LayerRecord`]. It depends only on the members' contents and the encoder, not on the
    /// image. So a layer is packed once for all images that have it.
    pub key: CacheKey,
    /// The members, sorted.
    pub paths: Vec<StorePath>,
    /// The digests of the members' NAR serialisations, in the same order. They define the content of the layer.
    pub nar_hashes: Vec<NarHash>,
    /// The total NAR size of the members, in bytes.
    pub nar_size: u64,
}

/// A layer that has been packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Digest of the blob.
    pub digest: Digest,
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// Size of the blob, in bytes.
    pub size: u64,
    /// Size of the uncompressed tar, in bytes.
    pub uncompressed: u64,
    /// The blob's compression.
    pub compression: LayerCompression,
}

impl LayerPlan {
    /// The plan for a layer with these members and this encoding.
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
            nar_size: members.iter().fold(0, |sum, member| sum.saturating_add(member.nar_size)),
            nar_hashes: members.iter().map(|member| member.nar_hash).collect(),
            paths: members.into_iter().map(|member| member.path.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A member whose path and content are from small sets, so that two layers differ only a little.
    fn member() -> impl Strategy<Value = ClosurePath> {
        ("[ab]{1,2}", "[01]").prop_map(|(name, content)| ClosurePath {
            path: format!("/nix/store/{}-{name}", "0".repeat(32)).parse().expect("a store path"),
            nar_hash: format!("sha256:{}", content.repeat(64)).parse().expect("a hash"),
            nar_size: 1,
            references: Vec::new(),
        })
    }

    fn layer() -> impl Strategy<Value = (Vec<ClosurePath>, LayerEncoding)> {
        // A closure has each path only once.
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
        fn different_layers_have_different_keys(a in layer(), b in layer()) {
            let key = |(members, encoding): &(Vec<ClosurePath>, LayerEncoding)| {
                let key = LayerPlan::new(members, encoding).key;
                assert_eq!(LayerPlan::new(members.iter().rev(), encoding).key, key, "the order does not matter");
                key
            };
            prop_assert_eq!(a == b, key(&a) == key(&b), "{:?} {:?}", a, b);
        }
    }
}
