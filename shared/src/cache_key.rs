//! Cache keys: SHA-256 over length-prefixed fields, so that different fields never have the same key.
//!
//! The length prefix makes `["ab", "c"]` and `["a", "bc"]` differ. The first field is the kind of the key with its
//! format version. (Nixery joins package names without a separator and leaves the architecture out.) As a hash, every
//! key is shorter than the 512 bytes that Cloudflare KV allows.

use crate::oci::digest::Digest;
use sha2::Digest as _;
use std::{fmt, str::FromStr};

/// The key of a record or a cached answer: 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey(Digest);

/// The text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 64 lower-case hexadecimal digits")]
pub struct ParseCacheKeyError;

impl CacheKey {
    /// Begins a key of this kind. The kind contains a version; change it when the meaning of the values stored under
    /// such keys changes.
    pub fn builder(kind: &str) -> CacheKeyBuilder {
        CacheKeyBuilder(sha2::Sha256::new()).field(kind)
    }

    /// The key with these 32 raw bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Digest::from_bytes(bytes))
    }

    /// The 32 raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl FromStr for CacheKey {
    type Err = ParseCacheKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        format!("sha256:{text}").parse().map(Self).map_err(|_| ParseCacheKeyError)
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

/// Collects the fields of a [`CacheKey`].
#[derive(Debug, Clone)]
pub struct CacheKeyBuilder(sha2::Sha256);

impl CacheKeyBuilder {
    /// Adds one field.
    pub fn field(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a list, preceded by the number of its members.
    pub fn list<T: AsRef<[u8]>>(mut self, members: impl ExactSizeIterator<Item = T>) -> Self {
        self.0.update((members.len() as u64).to_le_bytes());
        members.fold(self, Self::field)
    }

    /// The key.
    pub fn build(self) -> CacheKey {
        CacheKey(Digest::from_hasher(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(lists: &[Vec<String>]) -> CacheKey {
        lists.iter().fold(CacheKey::builder("test"), |key, list| key.list(list.iter())).build()
    }

    proptest! {
        #[test]
        fn different_fields_have_different_keys(
            a in proptest::collection::vec(proptest::collection::vec("[ab/:]{0,3}", 0..4), 0..4),
            b in proptest::collection::vec(proptest::collection::vec("[ab/:]{0,3}", 0..4), 0..4),
        ) {
            // Each kind of key has a fixed number of lists, so only keys with equally many are compared.
            prop_assume!(a.len() == b.len());
            prop_assert_eq!(a == b, key(&a) == key(&b));
        }
    }

    #[test]
    fn kind_is_part_of_the_key() {
        assert_ne!(CacheKey::builder("a").build(), CacheKey::builder("b").build());
        assert_eq!(CacheKey::builder("a").build().to_string().len(), 64);
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        let key = CacheKey::builder("a").build();
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["", "a", &key.to_string().to_uppercase(), &format!("{key}0"), &format!("sha256:{key}")] {
            assert_eq!(text.parse::<CacheKey>(), Err(ParseCacheKeyError), "{text}");
        }
    }
}
