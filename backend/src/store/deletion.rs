//! Deletes a blob that another process may be storing again at this moment.
//!
//! Blobs are content: a process that needs a deleted blob writes the same bytes under the same name. Neither files
//! nor buckets can delete an object "unless another process wants it". So each side announces what it is about to do
//! before it checks what the other side does (Dekker's algorithm). This works because stores list and read what was
//! written before.
//!
//! - To delete a blob, write `upkeep/deleting/<digest>`, then read `upkeep/claimed/<digest>`. If that is younger than
//!   the grace period, do not delete the blob.
//! - To store a blob that exists already, write `upkeep/claimed/<digest>`, then wait until there is no
//!   `upkeep/deleting/<digest>`, and then write the blob whether it exists or not.
//!
//! One of the two sees the other. A new blob needs none of this, because it is younger than the grace period.

use super::{Store, StoreError, StoredObject, folders::UPKEEP};
use firn_shared::{Digest, link::object_key::blob_key};
use object_store::path::Path;
use std::collections::HashMap;
use std::time::Duration;

/// The blobs that nothing refers to.
const CONDEMNED: &str = "upkeep/condemned";
/// How often to check whether a deletion is over.
const STEP: Duration = Duration::from_millis(50);
/// After how many checks to assume that the deleting process has died. It has one object to delete.
const LOOKS: usize = 200;

fn deleting(digest: &Digest) -> Path {
    Path::from(format!("{UPKEEP}/deleting/{}", digest.hex()))
}

fn claimed(digest: &Digest) -> Path {
    Path::from(format!("{UPKEEP}/claimed/{}", digest.hex()))
}

impl Store {
    /// Deletes a blob unless it was written or claimed after `before_ms`. Returns whether it is deleted.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn delete_blob(&self, digest: &Digest, before_ms: i64) -> Result<bool, StoreError> {
        let mark = deleting(digest);
        self.put_unbounded(&mark, Vec::new()).await?;
        let result = self.delete_marked(digest, before_ms).await;
        self.delete(&mark).await?;
        result
    }

    async fn delete_marked(&self, digest: &Digest, before_ms: i64) -> Result<bool, StoreError> {
        let is_young = |object: &StoredObject| object.modified_ms > before_ms;
        let claim = self.object(&claimed(digest)).await?;
        if claim.as_ref().is_some_and(is_young) {
            return Ok(false);
        }
        let location = Path::from(blob_key(digest));
        let Some(blob) = self.object(&location).await? else { return Ok(true) };
        if is_young(&blob) {
            return Ok(false);
        }
        self.remove(&blob).await?;
        if let Some(claim) = claim {
            self.remove(&claim).await?;
        }
        Ok(true)
    }

    /// Call this before storing a blob. If the blob exists, no process deletes it until the grace period has passed.
    pub(super) async fn claim(&self, digest: &Digest) -> Result<(), StoreError> {
        if self.blob_size(digest).await?.is_none() {
            return Ok(());
        }
        self.put_unbounded(&claimed(digest), Vec::new()).await?;
        for _ in 0..LOOKS {
            if self.object(&deleting(digest)).await?.is_none() {
                return Ok(());
            }
            tokio::time::sleep(STEP).await;
        }
        self.delete(&deleting(digest)).await
    }

    /// The blobs that nothing refers to, and since when, in milliseconds since 1970 by the store's clock.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn condemned(&self) -> Result<HashMap<Digest, i64>, StoreError> {
        let bytes = self.read(&Path::from(CONDEMNED)).await?;
        // If the object is missing, every blob gets a new grace period.
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    /// Writes the list that [`Self::condemned`] reads.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn condemn(&self, blobs: &HashMap<Digest, i64>) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(blobs).expect("digests are text keys");
        self.put_unbounded(&Path::from(CONDEMNED), bytes).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn young_and_claimed_blobs_are_not_deleted() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open("memory://", dir.path()).expect("a store");
        let digest = Digest::of(b"x");
        store.put_blob(&digest, b"x".to_vec()).await.expect("stored");
        let written = store.now_ms().await.expect("a time");
        assert!(!store.delete_blob(&digest, 0).await.expect("the store works"), "it is young");
        // Storing it again claims it.
        while store.now_ms().await.expect("a time") <= written {
            tokio::task::yield_now().await;
        }
        store.claim(&digest).await.expect("claimed");
        assert!(!store.delete_blob(&digest, written).await.expect("the store works"), "it is claimed");
        let later = store.now_ms().await.expect("a time");
        assert!(store.delete_blob(&digest, later).await.expect("the store works"));
        assert_eq!(store.blob_size(&digest).await.expect("the store works"), None);
    }
}
