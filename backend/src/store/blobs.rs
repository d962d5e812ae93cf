//! Blobs: written to a temporary file, verified by the code that computes their digest, then visible as a whole.

use super::{Store, StoreError, StoredObject, budget::Reservation, objects::found};
use bytes::Bytes;
use firn_shared::{Digest, link::object_key::blob_key};
use futures::{
    StreamExt, TryStreamExt,
    stream::{BoxStream, FuturesUnordered},
};
use object_store::{
    GetOptions, GetRange, GetResultPayload, MultipartUpload, ObjectMeta, ObjectStoreExt, path::Path,
};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::NamedTempFile;

/// A blob that is being written: a file that only its writer sees.
#[derive(Debug)]
pub struct StagedBlob {
    pub(super) file: NamedTempFile,
    /// How many bytes were written.
    size: u64,
    room: Reservation,
}

/// A stored blob, open for reading.
pub struct BlobReader {
    /// Size of the whole blob in bytes.
    pub size: u64,
    /// The requested bytes.
    pub bytes: BoxStream<'static, Result<Bytes, StoreError>>,
}

/// Maximum size of a manifest or config in bytes.
pub const SMALL: u64 = 4 << 20;
/// How many bytes of a file are read at a time.
const READ_SIZE: usize = 256 << 10;
/// How many bytes of a large blob are sent at a time. Object stores require at least 5 MiB.
const PART_SIZE: u64 = 8 << 20;
/// How many parts of a blob are sent at once. Times their size, this is the memory of an upload.
const PARTS_IN_FLIGHT: usize = 2;
/// How many large blobs are uploaded at once.
pub(super) const UPLOADS: usize = 2;

impl io::Write for StagedBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room.cover(self.size + bytes.len() as u64)?;
        let written = self.file.as_file_mut().write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().flush()
    }
}

pub(super) fn location(digest: &Digest) -> Path {
    Path::from(blob_key(digest))
}

impl Store {
    /// Starts a blob whose digest is not known yet.
    ///
    /// # Errors
    /// If the staging directory cannot be written to.
    pub fn stage(&self) -> Result<StagedBlob, StoreError> {
        let failed = |source| StoreError::File { path: self.staging.path().to_owned(), source };
        let file = self.staging.file().map_err(failed)?;
        Ok(StagedBlob { file, size: 0, room: self.budget.nothing() })
    }

    /// Makes a staged blob visible under the digest that its writer computed.
    ///
    /// # Errors
    /// If the store fails, or the bytes are no longer those that were written. The blob is then deleted.
    pub async fn commit(&self, staged: StagedBlob, digest: &Digest) -> Result<(), StoreError> {
        let error = |source| StoreError::File { path: staged.file.path().to_owned(), source };
        if staged.file.as_file().metadata().map_err(error)?.len() != staged.size {
            return Err(StoreError::Damaged(*digest));
        }
        self.claim(digest).await?;
        let StagedBlob { file, size, room } = staged;
        match &self.files {
            Some(files) => files.adopt(file, &location(digest)).await?,
            None => self.upload(file, size, digest).await?,
        }
        room.keep();
        Ok(())
    }

    /// Uploads a staged blob to a bucket. This reads it again, so its digest is checked again.
    async fn upload(&self, file: NamedTempFile, size: u64, digest: &Digest) -> Result<(), StoreError> {
        let location = location(digest);
        let mut parts = Parts::new(file, size);
        if size <= PART_SIZE {
            let only = parts.next().await?.unwrap_or_default();
            parts.check(digest)?;
            self.objects.put(&location, only.into()).await?;
            return Ok(());
        }
        let _permit = self.uploads.acquire().await.expect("the semaphore is never closed");
        let mut upload = self.objects.put_multipart(&location).await?;
        if let Err(error) = send(&mut *upload, parts, digest).await {
            if let Err(error) = upload.abort().await {
                tracing::warn!(%location, %error, "parts of an upload that failed stay in the bucket");
            }
            // If several writers store one blob at once, Azure lets the first one complete it and drops the parts of
            // the others. The blob is claimed, so it is not deleted now.
            let is_there =
                matches!(error, StoreError::Object(_)) && self.blob_size(digest).await? == Some(size);
            return if is_there { Ok(()) } else { Err(error) };
        }
        // The bytes that were sent have the right digest. The bucket must say whether all of them arrived.
        if self.blob_size(digest).await? == Some(size) {
            return Ok(());
        }
        self.objects.delete(&location).await?;
        Err(StoreError::Damaged(*digest))
    }

    /// Stores a small blob.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn put_blob(&self, digest: &Digest, bytes: Vec<u8>) -> Result<(), StoreError> {
        debug_assert_eq!(Digest::of(&bytes), *digest);
        self.claim(digest).await?;
        self.put(&location(digest), bytes).await
    }

    /// A blob's current metadata. None if there is no such blob.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn blob(&self, digest: &Digest) -> Result<Option<StoredObject>, StoreError> {
        self.object(&location(digest)).await
    }

    /// The size of a blob in bytes. None if there is no such blob.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.blob(digest).await?.map(|blob| blob.size))
    }

    /// A whole blob of at most [`SMALL`] bytes, verified. None if there is no such blob.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn small_blob(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        let read = self.read_object(&location(digest), SMALL).await?;
        let Some((blob, bytes)) = read else { return Ok(None) };
        if Digest::of(&bytes) == *digest {
            return Ok(Some(bytes));
        }
        self.quarantine(&blob).await?;
        Ok(None)
    }

    /// Opens a blob, or a range of it, which must be inside the blob. None if there is no such blob. See `quarantine`
    /// for what is verified.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn open_blob(
        &self,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<Option<BlobReader>, StoreError> {
        let whole = range.is_none();
        let Some((meta, bytes)) = self.open_at(digest, range).await? else { return Ok(None) };
        let bytes = match whole {
            true => self.verifying(digest, &meta, bytes),
            false => {
                self.verify_later(digest, &meta);
                bytes
            }
        };
        Ok(Some(BlobReader { size: meta.size, bytes }))
    }

    /// Opens a whole blob for a caller that verifies it.
    pub(super) async fn open_unverified(&self, digest: &Digest) -> Result<Option<BlobReader>, StoreError> {
        let opened = self.open_at(digest, None).await?;
        Ok(opened.map(|(meta, bytes)| BlobReader { size: meta.size, bytes }))
    }

    async fn open_at(
        &self,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<Option<(ObjectMeta, BoxStream<'static, Result<Bytes, StoreError>>)>, StoreError> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let Some(result) = found(self.objects.get_opts(&location(digest), options).await)? else {
            return Ok(None);
        };
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let bytes = match result.payload {
            GetResultPayload::File(file, path) => read_file(file, path, range),
            GetResultPayload::Stream(stream) => stream.map(|chunk| Ok(chunk?)).boxed(),
        };
        Ok(Some((meta, bytes)))
    }
}

/// A staged blob that is read part by part. Its digest is computed meanwhile.
struct Parts {
    file: Arc<File>,
    path: PathBuf,
    hasher: Sha256,
    /// The bytes that have not been read yet.
    left: Range<u64>,
}

impl Parts {
    fn new(file: NamedTempFile, size: u64) -> Self {
        let (path, hasher) = (file.path().to_owned(), Sha256::new());
        Self { file: Arc::new(file.into_file()), path, hasher, left: 0..size }
    }

    /// The next part. All but the last one have the same size, which some buckets require.
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let (start, length) = (self.left.start, (self.left.end - self.left.start).min(PART_SIZE));
        if length == 0 {
            return Ok(None);
        }
        let (file, mut hasher) = (Arc::clone(&self.file), std::mem::take(&mut self.hasher));
        let read = tokio::task::spawn_blocking(move || {
            let mut part = vec![0; length as usize];
            file.read_exact_at(&mut part, start)?;
            hasher.update(&part);
            Ok((hasher, Bytes::from(part)))
        });
        let read = read.await.map_err(io::Error::other).flatten();
        let (hasher, part) = read.map_err(|source| StoreError::File { path: self.path.clone(), source })?;
        self.hasher = hasher;
        self.left.start += length;
        Ok(Some(part))
    }

    /// Checks that the bytes that were read still have the digest of those that were written.
    fn check(self, digest: &Digest) -> Result<(), StoreError> {
        let same = Digest::from_hasher(self.hasher) == *digest;
        if same { Ok(()) } else { Err(StoreError::Damaged(*digest)) }
    }
}

/// Sends all parts. Completes the upload if their digest is right.
async fn send(upload: &mut dyn MultipartUpload, mut parts: Parts, digest: &Digest) -> Result<(), StoreError> {
    let mut under_way = FuturesUnordered::new();
    while let Some(part) = parts.next().await? {
        if under_way.len() == PARTS_IN_FLIGHT {
            under_way.try_next().await?;
        }
        under_way.push(upload.put_part(part.into()));
    }
    while under_way.try_next().await?.is_some() {}
    parts.check(digest)?;
    upload.complete().await?;
    Ok(())
}

/// Reads a range of a file in large pieces. `object_store` would read 8 KiB at a time.
fn read_file(file: File, path: PathBuf, range: Range<u64>) -> BoxStream<'static, Result<Bytes, StoreError>> {
    let state = (Arc::new(file), path, range);
    futures::stream::try_unfold(state, |(file, path, range)| async move {
        let length = usize::try_from(range.end - range.start).unwrap_or(READ_SIZE).min(READ_SIZE);
        if length == 0 {
            return Ok(None);
        }
        let reader = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length];
            reader.read_exact_at(&mut bytes, range.start).map(|()| bytes)
        });
        match read.await.map_err(io::Error::other).flatten() {
            Ok(bytes) => {
                let rest = range.start + length as u64..range.end;
                Ok(Some((Bytes::from(bytes), (file, path, rest))))
            }
            Err(source) => Err(StoreError::File { path, source }),
        }
    })
    .boxed()
}
