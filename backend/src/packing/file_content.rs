//! The bytes of a regular file: in memory, in a file on the disk, or in a stream.

use super::PackingError;
use super::content_stream::ContentStream;
use super::source_file::SourceFile;
use super::still_content::StillContent;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// The bytes of a regular file.
#[derive(Debug)]
pub enum FileContent {
    /// In memory, where they stay until they are packed: for small files.
    Bytes(Bytes),
    /// In a file, which is read when its turn comes.
    File(Arc<SourceFile>),
    /// In a stream, such as an archive that is being downloaded: for files of any size.
    Stream(Box<ContentStream>),
}

impl FileContent {
    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.size,
            Self::Stream(stream) => stream.size(),
        }
    }

    /// All bytes, and the content as it was before. Nothing is read of a file of more than `limit` bytes.
    ///
    /// # Errors
    /// When it cannot be read, or has changed.
    pub(crate) fn peek(self, limit: u64) -> Result<(Option<Bytes>, Self), PackingError> {
        if self.size() > limit {
            return Ok((None, self));
        }
        let bytes = match self {
            Self::Bytes(bytes) => bytes,
            Self::File(file) => {
                let mut bytes = vec![0; usize::try_from(file.size).expect("a file that fits into memory")];
                let open = file.open()?;
                open.read(0, &mut bytes)?;
                open.finish()?;
                return Ok((Some(bytes.into()), Self::File(file)));
            }
            Self::Stream(mut stream) => {
                let mut bytes = BytesMut::new();
                while stream.left() > 0 {
                    bytes.extend_from_slice(&stream.read(usize::MAX)?);
                }
                bytes.freeze()
            }
        };
        Ok((Some(bytes.clone()), Self::Bytes(bytes)))
    }
}

impl From<StillContent> for FileContent {
    fn from(content: StillContent) -> Self {
        match content {
            StillContent::Bytes(bytes) => Self::Bytes(bytes),
            StillContent::File(file) => Self::File(file),
        }
    }
}
