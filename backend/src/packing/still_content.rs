//! The bytes of a regular file, where they can be read more than once.

use super::PackingError;
use super::source_file::{OpenFile, SourceFile};
use bytes::Bytes;
use std::sync::Arc;

/// Bytes that can be read more than once.
#[derive(Debug, Clone)]
pub(super) enum StillContent {
    Bytes(Bytes),
    File(Arc<SourceFile>),
}

/// Content that is being read.
pub(super) enum OpenContent<'a> {
    Bytes(&'a [u8]),
    File(OpenFile<'a>),
}

impl StillContent {
    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.size,
        }
    }

    pub(super) fn open(&self) -> Result<OpenContent<'_>, PackingError> {
        Ok(match self {
            Self::Bytes(bytes) => OpenContent::Bytes(bytes),
            Self::File(file) => OpenContent::File(file.open()?),
        })
    }
}

impl OpenContent<'_> {
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
