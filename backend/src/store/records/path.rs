//! What is kept of store paths: what binary caches say of them, and their trees.

use firn_shared::{StorePath, cache_key::CacheKey, oci::digest::NarHash};

/// The key of what binary caches say of a store path.
pub(crate) fn path_info_key(path: &StorePath) -> CacheKey {
    CacheKey::builder("path-info-1").field(path.as_str()).build()
}

/// The key of the tree of a store path with this content.
pub(crate) fn tree_key(path: &StorePath, nar_hash: &NarHash) -> CacheKey {
    CacheKey::builder("tree-1").field(path.as_str()).field(nar_hash.as_bytes()).build()
}
