//! The objects in the store, for garbage collection and checks.

use super::{RecordKind, Store, StoreError, folders};
use bytes::Bytes;
use firn_shared::Digest;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{ObjectMeta, ObjectStoreExt, path::Path};

/// The kind of an object. Its location determines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// A layer, config or manifest.
    Blob(Digest),
    /// A record.
    Record(RecordKind),
    /// A tag by which an image was pulled.
    Tag,
    /// The time of an image's last pull.
    Pull,
    /// A record from which an edge composes images.
    Composition,
    /// A mark that an edge has written a blob.
    Composed(Digest),
    /// A corrupt object.
    Quarantined,
    /// An object that `firn check-config` writes and removes.
    Probe,
    /// State of garbage collection.
    Bookkeeping,
    /// A file that a process is writing.
    Unfinished,
    /// An object that this version of Firn does not write.
    Unknown,
}

/// An object in the store.
#[derive(Debug, Clone)]
pub struct StoredObject {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its location.
    pub location: Path,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by the store's clock, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// Turns the error for a missing object into None.
pub(super) fn found<T>(result: object_store::Result<T>) -> Result<Option<T>, StoreError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl ObjectKind {
    fn of(location: &Path) -> Self {
        let mut parts = location.parts();
        let folder = parts.next();
        let digest = || format!("sha256:{}", location.filename()?).parse().ok();
        match folder.as_ref().map_or("", |folder| folder.as_ref()) {
            "blobs" => digest().map_or(Self::Unknown, Self::Blob),
            "tags" => Self::Tag,
            "composition" => Self::Composition,
            "composed" => digest().map_or(Self::Unknown, Self::Composed),
            folders::PULLS => Self::Pull,
            folders::QUARANTINE => Self::Quarantined,
            "probes" => Self::Probe,
            folders::UPKEEP => Self::Bookkeeping,
            "staging" => Self::Unfinished,
            other => RecordKind::from_folder(other).map_or(Self::Unknown, Self::Record),
        }
    }
}

impl StoredObject {
    pub(super) fn new(meta: ObjectMeta) -> Self {
        Self {
            kind: ObjectKind::of(&meta.location),
            size: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
            location: meta.location,
        }
    }

    /// The last part of its location: the digits of a digest or key, or a tag.
    pub fn name(&self) -> &str {
        self.location.filename().unwrap_or_default()
    }
}

impl Store {
    /// Everything in the store, in no particular order.
    pub fn objects(&self) -> BoxStream<'_, Result<StoredObject, StoreError>> {
        self.objects.list(None).map_ok(StoredObject::new).map_err(StoreError::from).boxed()
    }

    /// The current metadata of an object. None if there is no such object.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn object(&self, location: &Path) -> Result<Option<StoredObject>, StoreError> {
        Ok(found(self.objects.head(location).await)?.map(StoredObject::new))
    }

    /// A whole small object. None if there is no such object.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn read(&self, location: &Path) -> Result<Option<Bytes>, StoreError> {
        Ok(self.read_object(location, u64::MAX).await?.map(|(_, bytes)| bytes))
    }

    /// A whole object with its metadata. None if there is no such object, or if it is larger than `limit` bytes.
    pub(super) async fn read_object(
        &self,
        location: &Path,
        limit: u64,
    ) -> Result<Option<(StoredObject, Bytes)>, StoreError> {
        let result = found(self.objects.get(location).await)?;
        let Some(result) = result.filter(|result| result.meta.size <= limit) else { return Ok(None) };
        let object = StoredObject::new(result.meta.clone());
        Ok(Some((object, result.bytes().await?)))
    }

    /// Deletes an object. Does nothing if there is no such object.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn remove(&self, object: &StoredObject) -> Result<(), StoreError> {
        self.delete(&object.location).await?;
        // Caches may assume that this object exists.
        if matches!(object.kind, ObjectKind::Blob(_) | ObjectKind::Record(RecordKind::Image)) {
            self.note_loss();
        }
        self.budget.release(object.size);
        Ok(())
    }

    pub(super) async fn delete(&self, location: &Path) -> Result<(), StoreError> {
        found(self.objects.delete(location).await).map(|_| ())
    }

    /// The store's time, in milliseconds since 1970. Ages are computed from times that this one clock has recorded,
    /// whatever the clocks of the machines that share the store say.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn now_ms(&self) -> Result<i64, StoreError> {
        let location = Path::from(format!("{}/clock", folders::UPKEEP));
        self.put_unbounded(&location, Vec::new()).await?;
        Ok(self.object(&location).await?.ok_or(StoreError::Unfaithful)?.modified_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_shared::link::object_key::composed_key;

    #[test]
    fn object_kinds_are_read_from_their_paths() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let check = |location: &str, expect: ObjectKind| {
            assert_eq!(ObjectKind::of(&Path::from(location)), expect, "{location}");
        };
        check(&format!("blobs/sha256/e3/{hex}"), ObjectKind::Blob(Digest::of(b"")));
        check("blobs/sha256/e3/readme", ObjectKind::Unknown);
        check(&format!("images/e3/{hex}"), ObjectKind::Record(RecordKind::Image));
        check(&format!("tags/{hex}/latest"), ObjectKind::Tag);
        check(&format!("quarantine/blobs/sha256/e3/{hex}"), ObjectKind::Quarantined);
        check(&format!("composition/e3/{hex}"), ObjectKind::Composition);
        check(&composed_key(&Digest::of(b"")), ObjectKind::Composed(Digest::of(b"")));
        check("lost+found", ObjectKind::Unknown);
    }
}
