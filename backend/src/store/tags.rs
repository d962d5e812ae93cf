//! Which tags of an image name have been built, for `tags/list`.

use super::{Store, StoreError};
use firn_shared::{cache_key::CacheKey, image_name::ImageName, reference::Tag};
use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutPayload, path::Path};

fn folder(name: &ImageName) -> String {
    format!("tags/{}", CacheKey::builder("tags-1").field(name.to_string()).build())
}

impl Store {
    /// Notes that a tag of this name has been built.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_tag(&self, name: &ImageName, tag: &Tag) -> Result<(), StoreError> {
        let location = Path::from(format!("{}/{tag}", folder(name)));
        self.objects.put(&location, PutPayload::default()).await?;
        Ok(())
    }

    /// The tags of this name that have been built, in no particular order.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tags(&self, name: &ImageName) -> Result<Vec<Tag>, StoreError> {
        let objects: Vec<_> = self.objects.list(Some(&Path::from(folder(name)))).try_collect().await?;
        let tag = |meta: &object_store::ObjectMeta| meta.location.filename()?.parse().ok();
        Ok(objects.iter().filter_map(tag).collect())
    }
}
