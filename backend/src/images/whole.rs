//! Whether all blobs of an image are there, as far as that can be seen without reading layers.
//!
//! Looked at when this process serves an image for the first time, and again whenever something in the store
//! has turned out to be missing (see [`Store::losses`]): a record is a promise, and disks and people break
//! promises. An image that is not whole is built again; its layers that are whole are not packed again.

use super::{BuildError, Builder};
use crate::store::{ImageRecord, SMALL, Store, StoreError, StoredObject};
use firn_shared::{Digest, cache_key::CacheKey};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use moka::sync::Cache;
use serde::Deserialize;
use std::collections::HashMap;
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

/// What a stored manifest refers to.
#[derive(Debug, Deserialize)]
pub(crate) struct StoredManifest {
    /// The config.
    pub(crate) config: StoredBlob,
    /// The layers, bottom first.
    pub(crate) layers: Vec<StoredBlob>,
}

/// A blob as a manifest describes it.
#[derive(Debug, Deserialize)]
pub(crate) struct StoredBlob {
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
}

/// What is wrong with an image.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Damage {
    #[error("its manifest {0} is missing or corrupt")]
    Manifest(Digest),
    #[error("{0} is missing or corrupt")]
    Missing(Digest),
    #[error("{digest} has {} bytes instead of {expected}", found.size)]
    Size { digest: Digest, expected: u64, found: StoredObject },
}

/// The digests of everything that a manifest consists of, with the sizes that it gives.
pub(crate) fn parts(manifest: StoredManifest) -> impl Iterator<Item = StoredBlob> {
    std::iter::once(manifest.config).chain(manifest.layers)
}

impl ImageRecord {
    /// The digests of its manifests.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = Digest> {
        std::iter::once(self.oci.digest).chain(self.docker.iter().map(|manifest| manifest.digest))
    }
}

/// Something that is wrong with an image; nothing when all is there in the right size.
async fn damage(store: &Store, record: &ImageRecord) -> Result<Option<Damage>, StoreError> {
    let read: Vec<_> = record
        .manifests()
        .map(async |digest| Ok::<_, StoreError>((digest, store.small_blob(&digest).await?)))
        .collect();
    // Its manifests have the same layers.
    let mut blobs = HashMap::new();
    let mut looks = Vec::new();
    for (digest, bytes) in try_join_all(read).await? {
        let manifest = bytes.and_then(|bytes| serde_json::from_slice::<StoredManifest>(&bytes).ok());
        let Some(manifest) = manifest else { return Ok(Some(Damage::Manifest(digest))) };
        let config = manifest.config.digest;
        for blob in parts(manifest) {
            if blobs.insert(blob.digest, blob.size).is_none() {
                let is_read = blob.digest == config && blob.size <= SMALL;
                looks.push(look(store, blob, is_read));
            }
        }
    }
    let found = stream::iter(looks).buffer_unordered(AT_ONCE).try_filter_map(async |damage| Ok(damage));
    std::pin::pin!(found).try_next().await
}

/// What is wrong with a blob.
async fn look(store: &Store, blob: StoredBlob, is_read: bool) -> Result<Option<Damage>, StoreError> {
    let StoredBlob { digest, size: expected } = blob;
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
