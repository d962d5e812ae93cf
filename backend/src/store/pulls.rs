//! When images were last pulled, and how often. There is one object per image; its time is that of the last pull.
//!
//! Pulls are recorded in memory and written every few seconds, for each image at most once a minute. So a thousand
//! pulls of an image are one small write. A crash loses the pulls of some seconds. This works the same way on
//! buckets, and survives restarts.
//!
//! The object contains the number of uses, and when the last use was counted. Pulls within a grace period count as
//! one use, so a client that pulls an image a thousand times has used it once. If two processes write at once, they
//! may count one use as two.
//!
//! A pull from the backend is recorded under the image's key. A pull from an edge is recorded under the digest of the
//! manifest that the edge sent ([`firn_shared::link::protocol::PULLED`]), because the edge knows nothing else for
//! certain.

use super::{RecordKind, Store, StoreError, blobs, folders::PULLS};
use firn_shared::{Digest, cache_key::CacheKey};
use futures::{StreamExt, TryStreamExt, stream};
use moka::sync::Cache;
use object_store::path::Path;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The resolution of pull times, unless a quarter of the grace period is shorter.
const RESOLUTION: Duration = Duration::from_secs(60);
/// For how many images the last write is remembered.
const MAX_NOTED: u64 = 100_000;
/// How many pulls are written at once.
const AT_ONCE: usize = 16;
/// How many images may wait to be written. Beyond that, the age of an image's record protects it for a while.
const MAX_WAITING: usize = 100_000;

/// Pulls that are not written yet, and when others were written.
#[derive(Debug, Clone)]
pub(super) struct Pulls {
    waiting: Arc<Mutex<HashSet<CacheKey>>>,
    written: Cache<CacheKey, Instant>,
    resolution: Duration,
    /// Pulls that are closer together count as one use.
    spacing: Duration,
}

/// How often an image has been pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Uses {
    count: u32,
    /// When the last use was counted, in milliseconds since 1970.
    counted_ms: i64,
}

/// The count does not go beyond this.
const MAX_USES: u32 = 64;
/// Pulls that are closer together count as one use, unless a grace period is set.
const SPACING: Duration = Duration::from_secs(3600);

impl Uses {
    fn read(content: &[u8]) -> Option<Self> {
        let (count, counted_ms) = std::str::from_utf8(content).ok()?.split_once(' ')?;
        Some(Self { count: count.parse().ok()?, counted_ms: counted_ms.parse().ok()? })
    }

    fn content(self) -> Vec<u8> {
        format!("{} {}", self.count, self.counted_ms).into_bytes()
    }

    /// Adds a pull at this time. If the last use is in the future, a wrong clock was corrected since.
    fn and_one(self, now_ms: i64, spacing: Duration) -> Self {
        match u128::from(self.counted_ms.abs_diff(now_ms)) >= spacing.as_millis() {
            true => Self { count: self.count.saturating_add(1).min(MAX_USES), counted_ms: now_ms },
            false => self,
        }
    }
}

impl Default for Pulls {
    fn default() -> Self {
        Self {
            spacing: SPACING,
            waiting: Arc::default(),
            written: Cache::builder().max_capacity(MAX_NOTED).time_to_live(RESOLUTION).build(),
            resolution: RESOLUTION,
        }
    }
}

fn location(key: &str) -> Path {
    Path::from(format!("{PULLS}/{}/{key}", key.get(..2).unwrap_or_default()))
}

impl Store {
    /// Sets the grace period: for how long after a pull an image counts as in use.
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.pulls.resolution = RESOLUTION.min(grace / 4);
        self.pulls.spacing = grace;
        self
    }

    /// Whether this image was pulled from this process since the last pulls were written.
    pub fn is_being_pulled(&self, image: &str) -> bool {
        let waiting = self.pulls.waiting.lock().expect("nothing panics while holding the lock");
        image.parse().is_ok_and(|image: CacheKey| waiting.contains(&image))
    }

    /// Records a pull of an image now. Does no I/O.
    pub fn note_pull(&self, image: &CacheKey) {
        if self.pulls.written.get(image).is_some_and(|written| written.elapsed() < self.pulls.resolution) {
            return;
        }
        let mut waiting = self.pulls.waiting.lock().expect("nothing panics while holding the lock");
        if waiting.len() < MAX_WAITING {
            waiting.insert(*image);
        }
    }

    /// Writes the recorded pulls. A pull that cannot be written is tried again next time.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn write_pulls(&self) -> Result<(), StoreError> {
        let waiting: Vec<CacheKey> = self
            .pulls
            .waiting
            .lock()
            .expect("nothing panics while holding the lock")
            .iter()
            .copied()
            .collect();
        let writes = waiting.into_iter().map(|image| async move {
            if let Some(uses) = self.uses_with_one_more(&image).await? {
                self.put_unbounded(&location(&image.to_string()), uses.content()).await?;
            }
            self.pulls.written.insert(image, Instant::now());
            self.pulls.waiting.lock().expect("nothing panics while holding the lock").remove(&image);
            Ok(())
        });
        stream::iter(writes.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// The uses of an image including a pull now. None if there is no such image.
    async fn uses_with_one_more(&self, image: &CacheKey) -> Result<Option<Uses>, StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        if let Some((object, content)) = self.read_object(&location(&image.to_string()), u64::MAX).await? {
            let old = Uses { count: 1, counted_ms: object.modified_ms };
            return Ok(Some(Uses::read(&content).unwrap_or(old).and_one(now_ms, self.pulls.spacing)));
        }
        // It was built for a client, which counts as a use.
        let born = match self.object(&RecordKind::Image.location(image)).await? {
            Some(record) => Some(record),
            None => self.object(&blobs::location(&Digest::from_bytes(*image.as_bytes()))).await?,
        };
        let built = born.map(|object| Uses { count: 1, counted_ms: object.modified_ms });
        Ok(built.map(|built| built.and_one(now_ms, self.pulls.spacing)))
    }

    /// How many uses of an image have been written. Pulls within a grace period count as one use.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn uses(&self, image: &str) -> Result<u32, StoreError> {
        let content = self.read(&location(image)).await?;
        // An object of an older version is empty.
        Ok(content.map_or(0, |content| Uses::read(&content).map_or(1, |uses| uses.count)))
    }

    /// Which of these blobs do not exist, or will be deleted by garbage collection.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn leaving(&self, blobs: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let condemned = self.condemned().await?;
        let looks = blobs.iter().map(|digest| async {
            let stays = !condemned.contains_key(digest) && self.blob_size(digest).await?.is_some();
            Ok::<_, StoreError>((!stays).then_some(*digest))
        });
        let looks = stream::iter(looks.collect::<Vec<_>>()).buffered(AT_ONCE);
        Ok(looks.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
    }

    /// Deletes the pulls of an image.
    pub(crate) async fn forget_pulls(&self, image: &str) -> Result<(), StoreError> {
        self.delete(&location(image)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_count_once_in_a_while() {
        let spacing = Duration::from_secs(1);
        let once = Uses { count: 1, counted_ms: 10_000 };
        assert_eq!(once.and_one(10_999, spacing), once);
        let twice = Uses { count: 2, counted_ms: 11_000 };
        assert_eq!(once.and_one(11_000, spacing), twice);
        assert_eq!(Uses::read(&twice.content()), Some(twice));
        // A time from the future is replaced.
        assert_eq!(Uses { count: 2, counted_ms: i64::MAX }.and_one(1, spacing).counted_ms, 1);
        let many = Uses { count: MAX_USES, counted_ms: 0 };
        assert_eq!(many.and_one(5_000, spacing), Uses { count: MAX_USES, counted_ms: 5_000 });
        for garbage in ["", "1", "x 1", "1 x", "-1 1"] {
            assert_eq!(Uses::read(garbage.as_bytes()), None, "{garbage:?}");
        }
    }

    #[tokio::test]
    async fn uses_are_those_of_images_that_are_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open("memory://", dir.path()).expect("a store").with_grace(Duration::ZERO);
        let manifest = Digest::of(b"manifest");
        let image = CacheKey::from_bytes(*manifest.as_bytes());
        let pull = async || {
            store.note_pull(&image);
            store.write_pulls().await.expect("written");
            store.uses(&image.to_string()).await.expect("the store works")
        };
        assert_eq!(pull().await, 0, "there is no such image");
        assert_eq!(store.object(&location(&image.to_string())).await.expect("it works").map(|_| ()), None);
        store.put_blob(&manifest, b"manifest".to_vec()).await.expect("stored");
        // It was built, and pulled since.
        assert_eq!(pull().await, 2);
        assert_eq!(pull().await, 3);
        // An object of an older version counts as one use.
        store.put_unbounded(&location(&image.to_string()), Vec::new()).await.expect("written");
        assert_eq!(store.uses(&image.to_string()).await.expect("the store works"), 1);
    }
}
