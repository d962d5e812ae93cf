//! Writes an archive entry by entry.

use super::header::{END, Kind, encode_header, padding};
use super::{ImagePath, Permissions};
use std::io::{self, Read, Write};

/// Writes entries to `W` in the given order.
///
/// The caller must sort the entries and put directories before their contents; [`super::pack`] does both. The archive
/// is complete only after [`Writer::finish`].
pub struct Writer<W: Write> {
    out: W,
    scratch: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self { out, scratch: Vec::new() }
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: &ImagePath, permissions: Permissions) -> io::Result<()> {
        self.header(path, permissions, Kind::Directory)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &ImagePath, target: &[u8]) -> io::Result<()> {
        self.header(path, Permissions::SYMLINK, Kind::Symlink { target })
    }

    /// Adds a regular file with exactly `size` bytes from `content`.
    ///
    /// Fails with [`io::ErrorKind::UnexpectedEof`] if `content` ends early. Bytes beyond `size` are not read.
    pub fn file(
        &mut self,
        path: &ImagePath,
        permissions: Permissions,
        size: u64,
        content: impl Read,
    ) -> io::Result<()> {
        self.header(path, permissions, Kind::File { size })?;
        let copied = io::copy(&mut content.take(size), &mut self.out)?;
        if copied != size {
            let message = format!("{path} ended after {copied} of {size} bytes");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.out.write_all(&END[..padding(size)])
    }

    /// Ends the archive and returns the writer, without flushing it.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&END)?;
        Ok(self.out)
    }

    fn header(&mut self, path: &ImagePath, permissions: Permissions, kind: Kind<'_>) -> io::Result<()> {
        self.scratch.clear();
        encode_header(path, permissions, kind, &mut self.scratch);
        self.out.write_all(&self.scratch)
    }
}
