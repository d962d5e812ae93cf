//! A regular file of a tree, and how it is read.

use super::PackingError;
use rustix::fs::{Mode, OFlags, SeekFrom};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

/// A regular file as the walk found it. If it has changed when it is read, that is an error.
#[derive(Debug)]
pub struct SourceFile {
    path: PathBuf,
    /// In bytes.
    pub(super) size: u64,
    /// Size in bytes.
    modified: (i64, i64),
    /// Whether the file has holes: fewer bytes are allocated than its size.
    sparse: bool,
}

/// A file that is being read.
pub(super) struct OpenFile<'a> {
    file: &'a SourceFile,
    handle: File,
}

impl SourceFile {
    /// The file at this path, which has this metadata.
    pub fn new(path: PathBuf, metadata: &Metadata) -> Self {
        let allocated = metadata.blocks() * 512; // st_blocks counts in these, whatever the file system
        Self {
            path,
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            sparse: allocated < metadata.size(),
        }
    }

    pub(super) fn open(&self) -> Result<OpenFile<'_>, PackingError> {
        // The file may have been replaced by a symbolic link or a pipe since: do not follow it, and do not wait.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let handle =
            rustix::fs::open(&self.path, flags, Mode::empty()).map_err(|errno| self.failed(errno.into()))?;
        Ok(OpenFile { file: self, handle: handle.into() })
    }

    fn failed(&self, source: io::Error) -> PackingError {
        PackingError::Read { path: self.path.clone(), source }
    }

    fn changed(&self) -> PackingError {
        PackingError::Changed { path: self.path.clone() }
    }
}

impl OpenFile<'_> {
    /// Fills `bytes` with the contents of the file from `offset` on.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), PackingError> {
        let read = if self.file.sparse {
            self.read_around_holes(offset, bytes)
        } else {
            self.handle.read_exact_at(bytes, offset)
        };
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.file.changed(),
            _ => self.file.failed(error),
        })
    }

    /// Ends the reading. Fails if the file changed before or while it was read.
    ///
    /// The inode may have changed: `nix-store --optimise` replaces a file by a hard link to an equal one.
    pub(super) fn finish(self) -> Result<(), PackingError> {
        let now = self.handle.metadata().map_err(|error| self.file.failed(error))?;
        let is_unchanged = now.is_file()
            && now.size() == self.file.size
            && (now.mtime(), now.mtime_nsec()) == self.file.modified;
        if is_unchanged { Ok(()) } else { Err(self.file.changed()) }
    }

    /// Like `read_exact_at`, but does not make the kernel copy the zeros of holes.
    fn read_around_holes(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(0);
        let end = offset + bytes.len() as u64;
        let mut at = offset;
        while at < end {
            let data = match rustix::fs::seek(&self.handle, SeekFrom::Data(at)) {
                Ok(data) => data.min(end),
                Err(rustix::io::Errno::NXIO) => end, // a hole up to the end of the file
                Err(errno) => return Err(errno.into()),
            };
            if data == end {
                break;
            }
            at = rustix::fs::seek(&self.handle, SeekFrom::Hole(data))?.min(end);
            self.handle.read_exact_at(&mut bytes[(data - offset) as usize..(at - offset) as usize], data)?;
        }
        Ok(())
    }
}
