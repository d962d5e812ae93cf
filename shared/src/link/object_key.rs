//! The keys of objects in the object store that backend and edge share.

use crate::{cache_key::CacheKey, oci::digest::Digest};

/// The key of a blob: `blobs/sha256/<first 2 digits>/<64 digits>`. The extra level keeps directories small if the store
/// is a file system.
pub fn blob_key(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("blobs/sha256/{}/{hex}", &hex[..2])
}

/// The key of a record from which the edge composes images: `composition/<first 2 digits>/<64 digits>`; see
/// [`crate::composition`].
pub fn composition_key(key: &CacheKey) -> String {
    let hex = key.to_string();
    format!("composition/{}/{hex}", &hex[..2])
}

/// The key of the marker for a blob that an edge has written to the bucket: `composed/<first 2 digits>/<64 digits>`.
/// The marker is an empty object. Its modification time is the time at which an edge last wrote the blob. No record
/// refers to such a blob.
pub fn composed_key(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("composed/{}/{hex}", &hex[..2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_part_of_the_storage_format() {
        assert_eq!(
            blob_key(&Digest::of(b"")),
            "blobs/sha256/e3/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
