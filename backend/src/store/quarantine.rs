//! Corruption is found when an object is read. The object is moved away, and is made again when it is needed.
//!
//! Small objects (manifests, configs, records) are verified at every read. A layer is verified while it is sent to
//! the first client that fetches it whole, and again after a day. Computing sha256 takes about as long as sending
//! over loopback, so verifying every time would halve the throughput of a server; and a disk rarely corrupts what it
//! has just returned intact. If a file's size or time has changed since, it is verified again. If a client fetches
//! only parts, the whole blob is verified in the background. The last bytes are sent after the digest was compared,
//! so no client receives a corrupt blob completely.
//!
//! A corrupt object goes to `quarantine/`, followed by its former location, and is never served from there.

use super::{ObjectKind, Store, StoreError, StoredObject, folders::QUARANTINE, objects::found};
use bytes::Bytes;
use firn_shared::Digest;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use moka::sync::Cache;
use object_store::{ObjectMeta, ObjectStoreExt, path::Path};
use sha2::Digest as _;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a verified blob is not verified again.
const BELIEVED: Duration = Duration::from_secs(24 * 3600);
/// How many verified blobs are remembered.
const MAX_BELIEVED: u64 = 200_000;
/// How many blobs may wait for verification in the background. Others are left to the next request.
const MAX_WAITING: usize = 1_000;

/// The size and time of a blob when it was verified.
type Stamp = (u64, i64);

/// What is known about the integrity of blobs.
#[derive(Debug, Clone)]
pub(super) struct Health {
    verified: Cache<Digest, Stamp>,
    waiting: Arc<Mutex<HashSet<Digest>>>,
    one_at_a_time: Arc<tokio::sync::Semaphore>,
    losses: Arc<AtomicU64>,
}

/// The result of reading a whole blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobCondition {
    /// Its bytes have its digest.
    Good,
    /// Its bytes have another digest.
    Corrupt,
    /// There is no such blob.
    Missing,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            verified: Cache::builder().max_capacity(MAX_BELIEVED).time_to_live(BELIEVED).build(),
            waiting: Arc::default(),
            one_at_a_time: Arc::new(tokio::sync::Semaphore::new(1)),
            losses: Arc::default(),
        }
    }
}

fn stamp(meta: &ObjectMeta) -> Stamp {
    (meta.size, meta.last_modified.timestamp_millis())
}

impl Store {
    /// How often an object was found missing. A caller that caches the existence of objects must look again when this
    /// has changed.
    pub fn losses(&self) -> u64 {
        self.health.losses.load(Ordering::Acquire)
    }

    /// Records that an object is missing.
    pub fn note_loss(&self) {
        self.health.losses.fetch_add(1, Ordering::AcqRel);
    }

    /// Moves a corrupt object to quarantine, unless it has been written again since: reading a large blob takes a
    /// while, and a process that finds a blob missing makes it again at once.
    ///
    /// # Errors
    /// If it can be neither moved nor deleted.
    pub async fn quarantine(&self, object: &StoredObject) -> Result<(), StoreError> {
        let location = &object.location;
        self.note_loss();
        if let ObjectKind::Blob(digest) = &object.kind {
            self.health.verified.invalidate(digest);
        }
        let now = self.object(location).await?;
        if now.is_none_or(|now| (now.size, now.modified_ms) != (object.size, object.modified_ms)) {
            return Ok(());
        }
        tracing::error!(%location, "corrupt object; moving it to quarantine");
        let aside = Path::from(format!("{QUARANTINE}/{location}"));
        match found(self.objects.rename(location, &aside).await) {
            Ok(_) => Ok(()),
            Err(error) => {
                // A full disk may have no room for another directory. No client may get a corrupt object, so delete
                // it.
                tracing::warn!(%location, error = %crate::error_chain::chain(&error), "removed instead");
                self.delete(location).await
            }
        }
    }

    /// Reads a whole blob and compares its digest. `read` is called with the size of each piece in bytes.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn verify_blob(
        &self,
        digest: &Digest,
        mut read: impl FnMut(u64),
    ) -> Result<BlobCondition, StoreError> {
        let Some(mut blob) = self.open_unverified(digest).await? else { return Ok(BlobCondition::Missing) };
        let mut hasher = sha2::Sha256::new();
        while let Some(bytes) = blob.bytes.try_next().await? {
            hasher.update(&bytes);
            read(bytes.len() as u64);
        }
        Ok(if Digest::from_hasher(hasher) == *digest { BlobCondition::Good } else { BlobCondition::Corrupt })
    }

    /// The bytes of a whole blob for a client. They are verified unless that was done recently. If the digest
    /// differs, the last piece is an error instead.
    pub(super) fn verifying(
        &self,
        digest: &Digest,
        meta: &ObjectMeta,
        bytes: BoxStream<'static, Result<Bytes, StoreError>>,
    ) -> BoxStream<'static, Result<Bytes, StoreError>> {
        let stamp = stamp(meta);
        if self.is_believed(digest, meta) {
            return bytes;
        }
        let (digest, blob) = (*digest, StoredObject::new(meta.clone()));
        let state = (self.clone(), blob, bytes, sha2::Sha256::new(), None::<Bytes>);
        futures::stream::try_unfold(Some(state), move |state| async move {
            let Some((store, blob, mut bytes, mut hasher, mut held)) = state else { return Ok(None) };
            loop {
                match bytes.try_next().await? {
                    Some(piece) => {
                        hasher.update(&piece);
                        // The last piece is held back until the digest was compared.
                        if let Some(send) = held.replace(piece) {
                            return Ok(Some((send, Some((store, blob, bytes, hasher, held)))));
                        }
                    }
                    None if Digest::from_hasher(hasher) == digest => {
                        store.health.verified.insert(digest, stamp);
                        return Ok(held.map(|last| (last, None)));
                    }
                    None => {
                        store.quarantine(&blob).await?;
                        return Err(StoreError::Corrupt(digest));
                    }
                }
            }
        })
        .boxed()
    }

    /// Verifies a blob of which a client reads a part, in the background, unless that was done recently.
    pub(super) fn verify_later(&self, digest: &Digest, meta: &ObjectMeta) {
        if self.is_believed(digest, meta) {
            return;
        }
        {
            let mut waiting = self.health.waiting.lock().expect("nothing panics while holding the lock");
            if waiting.len() >= MAX_WAITING || !waiting.insert(*digest) {
                return;
            }
        }
        let (store, digest, blob, stamp) =
            (self.clone(), *digest, StoredObject::new(meta.clone()), stamp(meta));
        tokio::spawn(async move {
            let _permit = store.health.one_at_a_time.acquire().await;
            let result = match store.verify_blob(&digest, |_| {}).await {
                Ok(BlobCondition::Good) => {
                    store.health.verified.insert(digest, stamp);
                    Ok(())
                }
                Ok(BlobCondition::Corrupt) => store.quarantine(&blob).await,
                Ok(BlobCondition::Missing) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                tracing::warn!(%digest, error = %crate::error_chain::chain(&error), "a blob was not verified");
            }
            store.health.waiting.lock().expect("nothing panics while holding the lock").remove(&digest);
        });
    }

    fn is_believed(&self, digest: &Digest, meta: &ObjectMeta) -> bool {
        self.health.verified.get(digest) == Some(stamp(meta))
    }

    /// Deletes an object in quarantine.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn remove_from_quarantine(&self, object: &StoredObject) -> Result<(), StoreError> {
        debug_assert!(object.location.as_ref().starts_with(QUARANTINE));
        self.remove(object).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_shared::link::object_key::blob_key;
    use std::path::PathBuf;

    fn files() -> (Store, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}", dir.path().join("storage").display());
        (Store::open(&url, &dir.path().join("staging")).expect("a store"), dir)
    }

    fn file(dir: &tempfile::TempDir, digest: &Digest) -> PathBuf {
        dir.path().join("storage").join(blob_key(digest))
    }

    async fn stored(store: &Store, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        store.put_blob(&digest, bytes.to_vec()).await.expect("stored");
        digest
    }

    async fn fetch(store: &Store, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(reader) = store.open_blob(digest, None).await? else { return Ok(None) };
        let pieces: Vec<Bytes> = reader.bytes.try_collect().await?;
        Ok(Some(pieces.concat()))
    }

    #[tokio::test]
    async fn a_corrupt_blob_is_never_sent_whole() {
        for size in [1, 1000, 3_000_000] {
            let (store, dir) = files();
            let bytes = vec![7; size];
            let digest = stored(&store, &bytes).await;
            assert_eq!(fetch(&store, &digest).await.expect("read"), Some(bytes.clone()));
            let mut corrupt = bytes.clone();
            corrupt[size / 2] ^= 1;
            std::fs::remove_file(file(&dir, &digest)).expect("removed");
            std::fs::write(file(&dir, &digest), &corrupt).expect("written");
            // The cache of verified blobs compares size and time; the time has milliseconds.
            let later = std::time::SystemTime::now() + Duration::from_secs(1);
            let opened = std::fs::File::options().write(true).open(file(&dir, &digest)).expect("opened");
            opened.set_modified(later).expect("touched");
            assert!(matches!(fetch(&store, &digest).await, Err(StoreError::Corrupt(of)) if of == digest));
            assert_eq!(fetch(&store, &digest).await.expect("read"), None, "it is out of the way");
            let aside = dir.path().join("storage").join(QUARANTINE).join(blob_key(&digest));
            assert_eq!(std::fs::read(aside).expect("it is kept"), corrupt);
            assert_eq!(store.losses(), 1);
            stored(&store, &bytes).await;
            assert_eq!(fetch(&store, &digest).await.expect("read"), Some(bytes), "and can be made again");
        }
    }

    /// Makes a blob corrupt, with an old time.
    fn corrupt(dir: &tempfile::TempDir, digest: &Digest, bytes: &[u8]) {
        std::fs::write(file(dir, digest), bytes).expect("written");
        let opened = std::fs::File::options().write(true).open(file(dir, digest)).expect("opened");
        opened.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1)).expect("touched");
    }

    #[tokio::test]
    async fn a_blob_made_again_during_quarantine_stays() {
        let (store, dir) = files();
        let bytes = vec![7; 1_000_000];
        let digest = stored(&store, &bytes).await;
        corrupt(&dir, &digest, &[8; 1_000_000]);
        let mut reader = store.open_blob(&digest, None).await.expect("opened").expect("it is there");
        reader.bytes.try_next().await.expect("read");
        stored(&store, &bytes).await;
        let rest: Result<Vec<Bytes>, _> = reader.bytes.try_collect().await;
        assert!(matches!(rest, Err(StoreError::Corrupt(of)) if of == digest));
        assert_eq!(fetch(&store, &digest).await.expect("read"), Some(bytes));
    }

    #[tokio::test]
    async fn small_blobs_are_always_verified() {
        let (store, dir) = files();
        let digest = stored(&store, b"a manifest").await;
        assert!(store.small_blob(&digest).await.expect("read").is_some());
        std::fs::write(file(&dir, &digest), b"a manifesT").expect("written");
        assert_eq!(store.small_blob(&digest).await.expect("read"), None);
        assert!(!file(&dir, &digest).exists());
    }

    #[tokio::test]
    async fn reading_a_range_verifies_the_whole_blob() {
        let (store, dir) = files();
        let digest = stored(&store, &[1; 5000]).await;
        std::fs::write(file(&dir, &digest), [2; 5000]).expect("written");
        let reader = store.open_blob(&digest, Some(0..10)).await.expect("opened").expect("it is there");
        drop(reader);
        while file(&dir, &digest).exists() {
            tokio::task::yield_now().await;
        }
        assert_eq!(store.blob_size(&digest).await.expect("the store works"), None);
    }
}
