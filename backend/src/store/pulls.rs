//! When images were last pulled: an empty object an image, whose time is that of its last pull.
//!
//! Pulls are noted in memory and written every few seconds, each image at most once a minute: a
//! thousand pulls of an image are one small write. A crash loses some seconds of them. It works the same on
//! buckets and survives restarts.

use super::{Store, StoreError};
use firn_shared::cache_key::CacheKey;
use futures::{StreamExt, TryStreamExt, stream};
use moka::sync::Cache;
use object_store::path::Path;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
}

impl Default for Pulls {
    fn default() -> Self {
        Self {
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
            self.put_unbounded(&location(&image.to_string()), Vec::new()).await?;
            self.pulls.written.insert(image, Instant::now());
            self.pulls.waiting.lock().expect("nothing panics while holding the lock").remove(&image);
            Ok(())
        });
        stream::iter(writes.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Forgets when an image was pulled.
    pub(crate) async fn forget_pulls(&self, image: &str) -> Result<(), StoreError> {
        self.delete(&location(image)).await
    }
}
