//! Checking the store: every blob is read and digested, every record is checked, and what they refer to must be
//! there.
//!
//! It runs beside servers. Records are read before blobs are listed, so whatever they refer to was there when
//! they were written; what looks wrong is looked at once more before anything is said or done, because a
//! collection or another repair may have been at it. A repair first removes the records that lead to what is
//! corrupt or missing, then moves what is corrupt aside if it still is; the next request makes it again.
//!
//! Folders of killed processes are removed by whoever opens the store, so there are none to be found here.
//! Parts of uploads to a bucket that were never finished cannot be seen through its API for objects: give the
//! bucket a lifecycle rule that aborts incomplete multipart uploads.

use crate::store::{
    ImageRecord, ObjectKind, RecordKind, SMALL, Store, StoreError, StoredObject, Tree, Verdict,
};
use firn_shared::{Digest, image::layer::LayerRecord, link::object_key::blob_key, oci::document::Descriptor};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use serde::Serialize;
use std::collections::HashMap;

/// How many blobs are read at once: digesting takes a core each.
const BLOBS_AT_ONCE: usize = 2;
/// How many records are read at once.
const RECORDS_AT_ONCE: usize = 16;
/// After how long what a command leaves for seconds is litter.
const LITTER_MS: i64 = 600_000;

/// What is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// A blob's bytes are not what its digest says.
    CorruptBlob,
    /// A record's bytes are not what its checksum says.
    CorruptRecord,
    /// A layer's record refers to a blob that is missing, corrupt or of another size.
    LayerWithoutBlob,
    /// An image's record refers to something that is missing, corrupt or of another size.
    IncompleteImage,
    /// Something that a process that was killed has left.
    Litter,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub problem: Problem,
    /// With which object.
    pub object: String,
    /// More about it.
    pub detail: String,
    /// Whether it was put right: by removing the object, or by moving it to quarantine.
    pub repaired: bool,
}

/// What a check showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FsckReport {
    /// How many blobs were read.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many records were read.
    pub records: u64,
    /// How many objects are in quarantine.
    pub quarantined: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// What a layer's record promises, or an image's documents.
enum Promise {
    Layer { location: Path, digest: Digest, size: u64 },
    Image { location: Path, name: String, documents: Vec<Descriptor> },
}

/// Checks everything. `progress` is told how many bytes of how many have been read.
///
/// # Errors
/// When the store fails.
pub async fn check(
    store: &Store,
    repair: bool,
    progress: impl Fn(u64, u64),
) -> Result<FsckReport, StoreError> {
    let mut check = Check { store, repair, report: FsckReport::default() };
    let promises = check.records().await?;
    let blobs = check.blobs(progress).await?;
    for promise in promises {
        check.keep_promise(promise, &blobs).await?;
    }
    // After the records, so that nobody is led to what is not there any more.
    let corrupt: Vec<Digest> = blobs.iter().filter(|(_, size)| size.is_none()).map(|(d, _)| *d).collect();
    for digest in corrupt {
        check.corrupt_blob(&digest).await?;
    }
    Ok(check.report)
}

struct Check<'a> {
    store: &'a Store,
    repair: bool,
    report: FsckReport,
}

/// The blobs that are there, with their sizes in bytes; nothing for those that are corrupt.
type Blobs = HashMap<Digest, Option<u64>>;

impl Check<'_> {
    fn found(&mut self, problem: Problem, object: &Path, detail: impl Into<String>) {
        let (object, detail) = (object.to_string(), detail.into());
        self.report.findings.push(Finding { problem, object, detail, repaired: self.repair });
    }

    /// Reads all records, and returns what they promise.
    async fn records(&mut self) -> Result<Vec<Promise>, StoreError> {
        let now_ms = self.store.now_ms().await?;
        let mut records = Vec::new();
        let mut litter = Vec::new();
        let mut objects = self.store.objects();
        while let Some(object) = objects.try_next().await? {
            let is_old = now_ms.saturating_sub(object.modified_ms) > LITTER_MS;
            match object.kind {
                ObjectKind::Record(kind) => records.push((kind, object)),
                ObjectKind::Quarantined => self.report.quarantined += 1,
                ObjectKind::Probe if is_old => litter.push(object),
                _ => {}
            }
        }
        self.report.records = records.len() as u64;
        for object in litter {
            if self.repair {
                self.store.remove(&object).await?;
            }
            self.found(Problem::Litter, &object.location, "a probe that was not removed");
        }
        let reads: Vec<_> = records.into_iter().map(|(kind, at)| promise(self.store, kind, at)).collect();
        let mut reads = stream::iter(reads).buffer_unordered(RECORDS_AT_ONCE);
        let mut promises = Vec::new();
        while let Some(read) = reads.try_next().await? {
            match read {
                Read::Promise(promise) => promises.push(promise),
                Read::Nothing => {}
                Read::Corrupt(object) => {
                    if self.repair {
                        self.store.quarantine(&object).await?;
                    }
                    self.found(Problem::CorruptRecord, &object.location, "does not match its checksum");
                }
            }
        }
        Ok(promises)
    }

    /// Reads all blobs.
    async fn blobs(&mut self, progress: impl Fn(u64, u64)) -> Result<Blobs, StoreError> {
        let listed: Vec<(Digest, StoredObject)> = self
            .store
            .objects()
            .try_filter_map(async |object| match object.kind {
                ObjectKind::Blob(digest) => Ok(Some((digest, object))),
                _ => Ok(None),
            })
            .try_collect()
            .await?;
        let total = listed.iter().map(|(_, object)| object.size).sum();
        let done = std::sync::atomic::AtomicU64::new(0);
        let told = |bytes: u64| {
            progress(done.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed) + bytes, total);
        };
        let mut reads = stream::iter(listed)
            .map(async |(digest, object)| {
                let verdict = self.store.verify_blob(&digest, told).await?;
                Ok::<_, StoreError>((digest, object.size, verdict))
            })
            .buffer_unordered(BLOBS_AT_ONCE);
        let (mut blobs, mut count, mut bytes) = (Blobs::new(), 0, 0);
        while let Some((digest, size, verdict)) = reads.try_next().await? {
            count += 1;
            bytes += size;
            match verdict {
                Verdict::Good => drop(blobs.insert(digest, Some(size))),
                Verdict::Corrupt => drop(blobs.insert(digest, None)),
                // Collected since it was listed.
                Verdict::Missing => {}
            }
        }
        drop(reads);
        (self.report.blobs, self.report.bytes) = (count, bytes);
        Ok(blobs)
    }

    /// What is wrong with a blob that should have this size; nothing if it is in order.
    async fn wrong(&self, blobs: &Blobs, digest: &Digest, size: u64) -> Result<Option<String>, StoreError> {
        let actual = match blobs.get(digest) {
            Some(None) => return Ok(Some(format!("{digest} is corrupt"))),
            Some(Some(actual)) => *actual,
            // It may have been stored again since.
            None => match self.store.blob_size(digest).await? {
                Some(actual) => actual,
                None => return Ok(Some(format!("{digest} is missing"))),
            },
        };
        Ok((actual != size).then(|| format!("{digest} has {actual} bytes instead of {size}")))
    }

    async fn keep_promise(&mut self, promise: Promise, blobs: &Blobs) -> Result<(), StoreError> {
        let (problem, location, wrong) = match promise {
            Promise::Layer { location, digest, size } => {
                (Problem::LayerWithoutBlob, location, self.wrong(blobs, &digest, size).await?)
            }
            Promise::Image { location, name, documents } => {
                let wrong = self.wrong_with_image(blobs, &documents).await?;
                (Problem::IncompleteImage, location, wrong.map(|wrong| format!("{name}: {wrong}")))
            }
        };
        let Some(detail) = wrong else { return Ok(()) };
        // Collected since it was read?
        let Some(object) = self.store.object(&location).await? else { return Ok(()) };
        if self.repair {
            self.store.remove(&object).await?;
        }
        self.found(problem, &location, detail);
        Ok(())
    }

    async fn wrong_with_image(
        &self,
        blobs: &Blobs,
        documents: &[Descriptor],
    ) -> Result<Option<String>, StoreError> {
        // As it is: a check that repairs nothing moves nothing to quarantine.
        let tree = Tree::read(documents, |digest| async move {
            match blobs.get(&digest) {
                Some(Some(size)) if *size > SMALL => Ok(None),
                _ => self.store.read(&Path::from(blob_key(&digest))).await,
            }
        });
        let tree = tree.await?;
        let read = tree.documents.iter().map(|(descriptor, _)| descriptor);
        for Descriptor { digest, size, .. } in read.chain(&tree.broken).chain(&tree.blobs) {
            if let Some(wrong) = self.wrong(blobs, digest, *size).await? {
                return Ok(Some(wrong));
            }
        }
        let broken = tree.broken.first();
        Ok(broken.map(|broken| format!("{} is no manifest of type {}", broken.digest, broken.media_type)))
    }

    async fn corrupt_blob(&mut self, digest: &Digest) -> Result<(), StoreError> {
        // Somebody may have made it again, or have met it and moved it aside.
        let Some(blob) = self.store.blob(digest).await? else { return Ok(()) };
        if self.store.verify_blob(digest, |_| {}).await? != Verdict::Corrupt {
            return Ok(());
        }
        if self.repair {
            self.store.quarantine(&blob).await?;
        }
        self.found(Problem::CorruptBlob, &Path::from(blob_key(digest)), "does not match its digest");
        Ok(())
    }
}

/// What reading a record showed.
enum Read {
    Promise(Promise),
    /// It promises nothing, or is gone.
    Nothing,
    Corrupt(StoredObject),
}

async fn promise(store: &Store, kind: RecordKind, object: StoredObject) -> Result<Read, StoreError> {
    match store.record_checks(&object.location).await? {
        None => return Ok(Read::Nothing),
        Some(false) => return Ok(Read::Corrupt(object)),
        Some(true) => {}
    }
    let location = object.location;
    let promise = match kind {
        RecordKind::Layer => {
            let record = store.read_record::<LayerRecord>(kind, &location).await?;
            record.map(|record| Promise::Layer { location, digest: record.digest, size: record.size })
        }
        RecordKind::Image => {
            let record = store.read_record::<ImageRecord>(kind, &location).await?;
            record.map(|record| Promise::Image {
                location,
                documents: record.documents().to_vec(),
                name: record.name,
            })
        }
        RecordKind::Package | RecordKind::PathInfo | RecordKind::Tree | RecordKind::Names => None,
    };
    Ok(promise.map_or(Read::Nothing, Read::Promise))
}
