//! The bytes of a regular file: in memory, or in a file on the disk.

use super::PackingError;
use super::source_file::{OpenFile, SourceFile};
use bytes::Bytes;
use std::sync::Arc;

/// The bytes of a regular file.
#[derive(Debug, Clone)]
pub enum FileContent {
    /// In memory, where they stay until they are packed: for small files.
    Bytes(Bytes),
    /// In a file, which is read when its turn comes.
    File(Arc<SourceFile>),
}

/// Content that is being read.
pub(super) enum OpenFileContent<'a> {
    Bytes(&'a [u8]),
    File(OpenFile<'a>),
}

impl FileContent {
    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.size,
        }
    }

    /// The first bytes, at most `limit`.
    ///
    /// # Errors
    /// When a file cannot be read, or has changed.
    pub fn beginning(&self, limit: u64) -> Result<Vec<u8>, PackingError> {
        let length = usize::try_from(self.size().min(limit)).expect("a limit that fits into memory");
        let mut bytes = vec![0; length];
        let open = self.open()?;
        open.read(0, &mut bytes)?;
        open.finish()?;
        Ok(bytes)
    }

    pub(super) fn open(&self) -> Result<OpenFileContent<'_>, PackingError> {
        Ok(match self {
            Self::Bytes(bytes) => OpenFileContent::Bytes(bytes),
            Self::File(file) => OpenFileContent::File(file.open()?),
        })
    }
}

impl OpenFileContent<'_> {
    /// Fills `bytes` with the content from `offset` on, which has as many.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), PackingError> {
        match self {
            Self::Bytes(content) => {
                let offset = usize::try_from(offset).expect("an offset in memory");
                bytes.copy_from_slice(&content[offset..][..bytes.len()]);
                Ok(())
            }
            Self::File(file) => file.read(offset, bytes),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// When a file has changed before or meanwhile.
    pub(super) fn finish(self) -> Result<(), PackingError> {
        match self {
            Self::Bytes(_) => Ok(()),
            Self::File(file) => file.finish(),
        }
    }
}
