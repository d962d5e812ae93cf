//! Whether all blobs of an image are there, as far as that can be seen without reading layers.
//!
//! Looked at when this process serves an image for the first time, and again whenever something in the store
//! has turned out to be missing (see [`Store::losses`]): a record is a promise, and disks and people break
//! promises. An image that is not whole is built again; its layers that are whole are not packed again.

use super::{BuildError, Builder};
use crate::store::{ImageRecord, SMALL, Store, StoreError, StoredObject};
use firn_shared::{
    Digest,
    cache_key::CacheKey,
    oci::document::{Descriptor, Document},
};
use futures::{StreamExt, TryStreamExt, stream};
use moka::sync::Cache;
use std::collections::HashSet;
use std::time::Duration;

/// How many blobs are looked for at once.
const AT_ONCE: usize = 16;
/// For how long an image is believed to be whole: another process may collect garbage.
const BELIEVED: Duration = Duration::from_secs(600);
/// For how many images.
const MAX_BELIEVED: u64 = 100_000;

/// Images that were whole, each with the number of losses at that time.
pub(super) type WholeImages = Cache<CacheKey, u64>;

pub(super) fn none_whole() -> WholeImages {
    Cache::builder().max_capacity(MAX_BELIEVED).time_to_live(BELIEVED).build()
}

/// What is wrong with an image.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Damage {
    #[error("its manifest {0} is missing, corrupt, or not what is said of it")]
    Manifest(Digest),
    #[error("{0} is missing or corrupt")]
    Missing(Digest),
    #[error("{digest} has {} bytes instead of {expected}", found.size)]
    Size { digest: Digest, expected: u64, found: StoredObject },
}

/// Something that is wrong with an image; nothing when all is there in the right size.
async fn damage(store: &Store, record: &ImageRecord) -> Result<Option<Damage>, StoreError> {
    let tree = store.tree(record.documents()).await?;
    if let Some(broken) = tree.broken.first() {
        return Ok(Some(Damage::Manifest(broken.digest)));
    }
    let configs: HashSet<Digest> = tree
        .documents
        .iter()
        .filter_map(|(_, document)| match document {
            Document::Image(manifest) => Some(manifest.config.digest),
            Document::Index(_) => None,
        })
        .collect();
    let looks: Vec<_> = tree
        .blobs
        .into_iter()
        .map(|blob| {
            let is_read = configs.contains(&blob.digest) && blob.size <= SMALL;
            look(store, blob, is_read)
        })
        .collect();
    let found = stream::iter(looks).buffer_unordered(AT_ONCE).try_filter_map(async |damage| Ok(damage));
    std::pin::pin!(found).try_next().await
}

/// What is wrong with a blob.
async fn look(store: &Store, blob: Descriptor, is_read: bool) -> Result<Option<Damage>, StoreError> {
    let Descriptor { digest, size: expected, .. } = blob;
    if is_read && store.small_blob(&digest).await?.is_none() {
        return Ok(Some(Damage::Missing(digest)));
    }
    Ok(match store.blob(&digest).await? {
        Some(found) if found.size == expected => None,
        Some(found) => Some(Damage::Size { digest, expected, found }),
        None => Some(Damage::Missing(digest)),
    })
}

impl Builder {
    /// Whether a recorded image can be served. A blob of the wrong size goes to quarantine.
    pub(super) async fn is_whole(&self, key: &CacheKey, record: &ImageRecord) -> Result<bool, BuildError> {
        let losses = self.store.losses();
        if self.whole.get(key) == Some(losses) {
            return Ok(true);
        }
        let Some(damage) = damage(&self.store, record).await? else {
            self.whole.insert(*key, losses);
            return Ok(true);
        };
        tracing::warn!(image.name = record.name, %damage, "an image is not whole and is built again");
        if let Damage::Size { found, .. } = damage {
            self.store.quarantine(&found).await?;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
