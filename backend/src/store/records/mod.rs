//! Records: small, versioned and self-checking.
//!
//! A record is one line `firn-record 1 sha256:<digest of the rest>` and then JSON, in gzip for kinds that are
//! large. One that does not check goes to quarantine: it can be made again.

mod image;
mod package;
mod path;

#[cfg(test)]
pub(crate) use image::tests as recorded_images;
pub use image::{ImageRecipe, ImageRecord, ImageRecordError};
pub(crate) use package::{NameRecord, names_key, package_key, survey_key};
pub(crate) use path::{path_info_key, tree_key};

use super::{Store, StoreError};
use firn_shared::{Digest, cache_key::CacheKey};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use serde::{Serialize, de::DeserializeOwned};
use std::io::Write;

/// What a record is about; also the name of its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// A finished image.
    Image,
    /// A packed layer.
    Layer,
    /// A package whose contents are known.
    Package,
    /// What binary caches say of a store path.
    PathInfo,
    /// The tree of a store path; it can have a million names, so it is compressed.
    Tree,
    /// The names of a package set: megabytes of text, so it is compressed.
    Names,
}

/// Changes when the JSON of any kind of record changes its meaning.
const VERSION: &str = "firn-record 1";

/// How many records are read at once when all of a kind are.
const AT_ONCE: usize = 16;

impl RecordKind {
    const fn folder(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::Layer => "layers",
            Self::Package => "packages",
            Self::PathInfo => "paths",
            Self::Tree => "trees",
            Self::Names => "names",
        }
    }

    const ALL: [Self; 6] = [Self::Image, Self::Layer, Self::Package, Self::PathInfo, Self::Tree, Self::Names];

    /// The kind of the records in this folder.
    pub(super) fn from_folder(folder: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.folder() == folder)
    }

    const fn is_compressed(self) -> bool {
        matches!(self, Self::Names | Self::Tree)
    }

    /// Where the record with this key is.
    pub fn location(self, key: &CacheKey) -> Path {
        let key = key.to_string();
        Path::from(format!("{}/{}/{key}", self.folder(), &key[..2]))
    }
}

impl Store {
    /// Writes a record; it replaces one that is there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_record(
        &self,
        kind: RecordKind,
        key: &CacheKey,
        record: &impl Serialize,
    ) -> Result<(), StoreError> {
        let mut body = serde_json::to_vec(record).expect("records have text keys");
        if kind.is_compressed() {
            body = gzip(&body);
        }
        let mut bytes = format!("{VERSION} {}\n", Digest::of(&body)).into_bytes();
        bytes.extend(body);
        self.put(&kind.location(key), bytes).await
    }

    /// Reads a record, or nothing where there is none that checks.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn record<T: DeserializeOwned>(
        &self,
        kind: RecordKind,
        key: &CacheKey,
    ) -> Result<Option<T>, StoreError> {
        self.read_record(kind, &kind.location(key)).await
    }

    /// All records of a kind that check, in no particular order.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn records<T: DeserializeOwned>(&self, kind: RecordKind) -> Result<Vec<T>, StoreError> {
        let folder = Path::from(kind.folder());
        let objects: Vec<_> = self.objects.list(Some(&folder)).try_collect().await?;
        let read = objects.iter().map(|object| self.read_record(kind, &object.location));
        let records: Vec<Option<T>> = stream::iter(read).buffered(AT_ONCE).try_collect().await?;
        Ok(records.into_iter().flatten().collect())
    }

    /// Removes a record, so that what it is about is made again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_record(&self, kind: RecordKind, key: &CacheKey) -> Result<(), StoreError> {
        match self.object(&kind.location(key)).await? {
            Some(object) => self.remove(&object).await,
            None => Ok(()),
        }
    }

    /// Reads the record at a place, or nothing where there is none that checks; one that does not goes to
    /// quarantine.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read_record<T: DeserializeOwned>(
        &self,
        kind: RecordKind,
        location: &Path,
    ) -> Result<Option<T>, StoreError> {
        let Some((object, bytes)) = self.read_object(location, u64::MAX).await? else { return Ok(None) };
        let Some(body) = check(&bytes) else {
            self.quarantine(&object).await?;
            return Ok(None);
        };
        let record = match kind.is_compressed() {
            true => serde_json::from_reader(flate2::read::GzDecoder::new(body)).ok(),
            false => serde_json::from_slice(body).ok(),
        };
        if record.is_none() {
            tracing::warn!(%location, "a record is of another version and is ignored");
        }
        Ok(record)
    }

    /// Whether a record is whole; nothing where there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn record_checks(&self, location: &Path) -> Result<Option<bool>, StoreError> {
        Ok(self.read(location).await?.map(|bytes| check(&bytes).is_some()))
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
}

/// The body of a record that is whole.
fn check(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (header, json) = (&bytes[..end], &bytes[end + 1..]);
    let digest = std::str::from_utf8(header).ok()?.strip_prefix(VERSION)?.trim_start();
    (digest.parse() == Ok(Digest::of(json))).then_some(json)
}
