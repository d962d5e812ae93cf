//! Where blobs lie in the object store that backend and edge share.

use crate::digest::Digest;

/// The key of a blob: `blobs/sha256/<first 2 digits>/<64 digits>`. The extra level keeps directories small
/// where the store is a file system.
pub fn blob_key(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("blobs/sha256/{}/{hex}", &hex[..2])
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
