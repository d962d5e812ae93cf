//! The bytes of a regular file: in memory, in a file on the disk, or in a stream.

use super::content_stream::ContentStream;
use super::source_file::SourceFile;
use super::still_content::StillContent;
use bytes::Bytes;
use std::sync::Arc;

/// The bytes of a regular file.
#[derive(Debug)]
pub enum FileContent {
    /// In memory, where they stay until they are packed: for small files.
    Bytes(Bytes),
    /// In a file, which is read when its turn comes.
    File(Arc<SourceFile>),
    /// In a stream, such as an archive that is being downloaded: for files of any size.
    Stream(ContentStream),
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
}

impl From<StillContent> for FileContent {
    fn from(content: StillContent) -> Self {
        match content {
            StillContent::Bytes(bytes) => Self::Bytes(bytes),
            StillContent::File(file) => Self::File(file),
        }
    }
}
