//! Blobs: written aside, verified by whoever digests them, then visible whole.

use super::{Store, StoreError};
use bytes::Bytes;
use firn_shared::{Digest, object_key::blob_key};
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    GetOptions, GetRange, GetResultPayload, ObjectStoreExt, PutMultipartOptions, PutPayload, WriteMultipart,
    path::Path,
};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::NamedTempFile;
use tokio::io::AsyncReadExt;

/// A blob in the making: a file that nobody else sees.
#[derive(Debug)]
pub struct StagedBlob(NamedTempFile);

/// A stored blob, open for reading.
pub struct BlobReader {
    /// Its whole size, in bytes.
    pub size: u64,
    /// The bytes that were asked for.
    pub bytes: BoxStream<'static, Result<Bytes, StoreError>>,
}

/// How much of a file is read at a time, in bytes.
const READ_SIZE: usize = 256 << 10;
/// How much of a large blob is sent at a time, in bytes; object stores ask for at least 5 MiB.
const PART_SIZE: usize = 8 << 20;
/// How many parts of a blob may be on their way at once; with their size, the memory that an upload takes.
const PARTS_IN_FLIGHT: usize = 2;

impl io::Write for StagedBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_file_mut().flush()
    }
}

fn location(digest: &Digest) -> Path {
    Path::from(blob_key(digest))
}

/// Nothing instead of an error for what is not there.
pub(super) fn found<T>(result: object_store::Result<T>) -> Result<Option<T>, StoreError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Store {
    /// A place to write a blob whose digest is not known yet.
    ///
    /// # Errors
    /// When the staging directory cannot be written.
    pub fn stage(&self) -> Result<StagedBlob, StoreError> {
        let failed = |source| StoreError::File { path: self.staging.path().to_owned(), source };
        self.staging.file().map(StagedBlob).map_err(failed)
    }

    /// Makes a staged blob visible under the digest that its writer computed over the bytes.
    ///
    /// # Errors
    /// When the store fails; the blob is gone then.
    pub async fn commit(&self, staged: StagedBlob, digest: &Digest) -> Result<(), StoreError> {
        let error = |source| StoreError::File { path: staged.0.path().to_owned(), source };
        let mut file = tokio::fs::File::from_std(staged.0.reopen().map_err(error)?);
        let mut part = Vec::new();
        let mut next_part = async || {
            part.clear();
            (&mut file).take(PART_SIZE as u64).read_to_end(&mut part).await.map_err(error)?;
            Ok::<_, StoreError>(Bytes::copy_from_slice(&part))
        };
        let first = next_part().await?;
        if first.len() < PART_SIZE {
            self.objects.put(&location(digest), first.into()).await?;
            return Ok(());
        }
        let upload =
            self.objects.put_multipart_opts(&location(digest), PutMultipartOptions::default()).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_SIZE);
        let mut bytes = first;
        while !bytes.is_empty() {
            upload.wait_for_capacity(PARTS_IN_FLIGHT).await?;
            upload.put(bytes);
            bytes = match next_part().await {
                Ok(bytes) => bytes,
                Err(error) => {
                    upload.abort().await?;
                    return Err(error);
                }
            };
        }
        upload.finish().await?;
        Ok(())
    }

    /// Stores a small blob.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_blob(&self, digest: &Digest, bytes: Vec<u8>) -> Result<(), StoreError> {
        debug_assert_eq!(Digest::of(&bytes), *digest);
        self.objects.put(&location(digest), PutPayload::from(bytes)).await?;
        Ok(())
    }

    /// The size of a blob in bytes, or nothing where there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(found(self.objects.head(&location(digest)).await)?.map(|meta| meta.size))
    }

    /// A whole small blob, or nothing where there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn small_blob(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        match found(self.objects.get(&location(digest)).await)? {
            Some(result) => Ok(Some(result.bytes().await?)),
            None => Ok(None),
        }
    }

    /// Opens a blob, or a range of it that lies inside, or nothing where there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open_blob(
        &self,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<Option<BlobReader>, StoreError> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let Some(result) = found(self.objects.get_opts(&location(digest), options).await)? else {
            return Ok(None);
        };
        let (size, range) = (result.meta.size, result.range.clone());
        let bytes = match result.payload {
            GetResultPayload::File(file, path) => read_file(file, path, range),
            GetResultPayload::Stream(stream) => stream.map(|chunk| Ok(chunk?)).boxed(),
        };
        Ok(Some(BlobReader { size, bytes }))
    }
}

/// A range of a file in large pieces: `object_store` would read 8 KiB at a time.
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
