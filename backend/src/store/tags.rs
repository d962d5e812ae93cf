//! The tags of an image name that were built, for `tags/list`.

use super::{Store, StoreError};
use firn_shared::{cache_key::CacheKey, naming::image_name::ImageName, oci::reference::Tag};
use futures::TryStreamExt;
use moka::sync::Cache;
use object_store::path::Path;
use std::time::Duration;

/// Tags that were recorded recently. Every pull names its tag, so most of them are.
pub(super) type NotedTags = Cache<String, ()>;

/// How many of them are remembered.
const MAX_NOTED: u64 = 10_000;
/// For how long.
const BELIEVED: Duration = Duration::from_secs(600);

pub(super) fn none_noted() -> NotedTags {
    // Entries expire, because garbage collection, perhaps in another process, removes tags.
    Cache::builder().max_capacity(MAX_NOTED).time_to_live(BELIEVED).build()
}

/// The folder of the tags of this name.
pub(crate) fn folder(name: &ImageName) -> String {
    format!("tags/{}", CacheKey::builder("tags-1").field(name.to_string()).build())
}

impl Store {
    /// Records that an image was pulled by this tag. Does nothing if that was recorded recently.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn note_tag(&self, name: &ImageName, tag: &Tag) -> Result<(), StoreError> {
        let key = format!("{name}:{tag}");
        if self.noted.contains_key(&key) {
            return Ok(());
        }
        let location = Path::from(format!("{}/{tag}", folder(name)));
        self.put(&location, Vec::new()).await?;
        self.noted.insert(key, ());
        Ok(())
    }

    /// The tags of this name that were built, in no particular order.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn tags(&self, name: &ImageName) -> Result<Vec<Tag>, StoreError> {
        let objects: Vec<_> = self.objects.list(Some(&Path::from(folder(name)))).try_collect().await?;
        let tag = |meta: &object_store::ObjectMeta| meta.location.filename()?.parse().ok();
        Ok(objects.iter().filter_map(tag).collect())
    }
}
