//! The records from which an edge composes images. They contain their own checksum; see [`firn_shared::composition`].

use super::{Store, StoreError};
use bytes::Bytes;
use firn_shared::{cache_key::CacheKey, link::object_key::composition_key};
use object_store::path::Path;

impl Store {
    /// Writes a record. Replaces an existing one.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn put_composition(&self, key: &CacheKey, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.put(&Path::from(composition_key(key)), bytes).await
    }

    /// A record as it was written. None if there is no such record.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn composition(&self, key: &CacheKey) -> Result<Option<Bytes>, StoreError> {
        self.read(&Path::from(composition_key(key))).await
    }
}
