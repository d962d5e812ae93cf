//! When images were last pulled, and how often: an object an image, whose time is that of its last pull.
//!
//! Pulls are noted in memory and written every few seconds, each image at most once a minute: a
//! thousand pulls of an image are one small write. A crash loses some seconds of them. It works the same on
//! buckets and survives restarts.
//!
//! The object's content is a number of uses, and when the last of them was counted. Pulls within a grace period are one
//! use, so that a client that asks for an image a thousand times has used it once. Two processes that write at once
//! count one use for two.
//!
//! Pulls of the backend are noted under the image's key. Those of an edge are noted under the digest of the manifest
//! that it has answered with ([`firn_shared::link::protocol::PULLED`]), which is all that it knows for certain.

use super::{RecordKind, Store, StoreError, blobs};
use firn_shared::{Digest, cache_key::CacheKey};
use futures::{StreamExt, TryStreamExt, stream};
use moka::sync::Cache;
use object_store::path::Path;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where pulls are noted.
pub(super) const FOLDER: &str = "pulls";
/// How exactly the time of a pull is known at best, and a quarter of the grace period where that is shorter.
const RESOLUTION: Duration = Duration::from_secs(60);
/// How many images are remembered as noted.
const MAX_NOTED: u64 = 100_000;
/// How many pulls are written at once.
const AT_ONCE: usize = 16;
/// How many images may wait to be noted; the record's own age protects the others for a while.
const MAX_WAITING: usize = 100_000;

/// Pulls that are not written yet, and those that were not long ago.
#[derive(Debug, Clone)]
pub(super) struct Pulls {
    waiting: Arc<Mutex<HashSet<CacheKey>>>,
    written: Cache<CacheKey, Instant>,
    resolution: Duration,
    /// Pulls that are less apart are one use.
    spacing: Duration,
}

/// How often an image has been pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Uses {
    count: u32,
    /// When the last one was counted, in milliseconds since 1970.
    counted_ms: i64,
}

/// How many uses are told apart.
const MAX_USES: u32 = 64;
/// How far apart pulls are at least that are two uses, unless a grace period says otherwise.
const SPACING: Duration = Duration::from_secs(3600);

impl Uses {
    fn read(content: &[u8]) -> Option<Self> {
        let (count, counted_ms) = std::str::from_utf8(content).ok()?.split_once(' ')?;
        Some(Self { count: count.parse().ok()?, counted_ms: counted_ms.parse().ok()? })
    }

    fn content(self) -> Vec<u8> {
        format!("{} {}", self.count, self.counted_ms).into_bytes()
    }

    /// With another pull at this time. A last one from the future is one of a clock that has been set right since.
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
    Path::from(format!("{FOLDER}/{}/{key}", key.get(..2).unwrap_or_default()))
}

impl Store {
    /// The same store, for whom an image counts as in use for so long after a pull.
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.pulls.resolution = RESOLUTION.min(grace / 4);
        self.pulls.spacing = grace;
        self
    }

    /// Whether somebody has pulled this image here since pulls were last written down.
    pub fn is_being_pulled(&self, image: &str) -> bool {
        let waiting = self.pulls.waiting.lock().expect("nothing panics while holding the lock");
        image.parse().is_ok_and(|image: CacheKey| waiting.contains(&image))
    }

    /// Notes that an image was pulled just now. Costs no I/O.
    pub fn note_pull(&self, image: &CacheKey) {
        if self.pulls.written.get(image).is_some_and(|written| written.elapsed() < self.pulls.resolution) {
            return;
        }
        let mut waiting = self.pulls.waiting.lock().expect("nothing panics while holding the lock");
        if waiting.len() < MAX_WAITING {
            waiting.insert(*image);
        }
    }

    /// Writes down the pulls that were noted. What cannot be written is tried again the next time.
    ///
    /// # Errors
    /// When the store fails.
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

    /// How often an image has been used, with a pull just now; nothing where there is no such image.
    async fn uses_with_one_more(&self, image: &CacheKey) -> Result<Option<Uses>, StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        if let Some((object, content)) = self.read_object(&location(&image.to_string()), u64::MAX).await? {
            let old = Uses { count: 1, counted_ms: object.modified_ms };
            return Ok(Some(Uses::read(&content).unwrap_or(old).and_one(now_ms, self.pulls.spacing)));
        }
        // It was built for somebody, which is a use too.
        let born = match self.object(&RecordKind::Image.location(image)).await? {
            Some(record) => Some(record),
            None => self.object(&blobs::location(&Digest::from_bytes(*image.as_bytes()))).await?,
        };
        let built = born.map(|object| Uses { count: 1, counted_ms: object.modified_ms });
        Ok(built.map(|built| built.and_one(now_ms, self.pulls.spacing)))
    }

    /// How often an image has been used, by what is written down; pulls within a grace period are one use.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn uses(&self, image: &str) -> Result<u32, StoreError> {
        let content = self.read(&location(image)).await?;
        // What an older version has written is empty.
        Ok(content.map_or(0, |content| Uses::read(&content).map_or(1, |uses| uses.count)))
    }

    /// Those of these blobs that are not there, or that garbage collection is going to delete.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn leaving(&self, blobs: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let condemned = self.condemned().await?;
        let looks = blobs.iter().map(|digest| async {
            let stays = !condemned.contains_key(digest) && self.blob_size(digest).await?.is_some();
            Ok::<_, StoreError>((!stays).then_some(*digest))
        });
        let looks = stream::iter(looks.collect::<Vec<_>>()).buffered(AT_ONCE);
        Ok(looks.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
    }

    /// Forgets when an image was pulled.
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
        // After a time from the future it goes on.
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
        // What an older version wrote counts as one.
        store.put_unbounded(&location(&image.to_string()), Vec::new()).await.expect("written");
        assert_eq!(store.uses(&image.to_string()).await.expect("the store works"), 1);
    }
}
