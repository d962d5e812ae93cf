//! Reading layers: gzip by flate2, tar by its crate, digests by sha2.

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::io::{self, BufReader, Read};
use tar::{Archive, EntryType};

/// A layer that was read completely.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Digest of the compressed bytes.
    pub digest: String,
    /// Digest of the tar.
    pub diff_id: String,
    /// Size of the compressed bytes.
    pub size: u64,
    /// The entries in order.
    pub entries: Vec<Entry>,
}

/// One member of the tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As written, without a trailing slash.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryType,
    /// Permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u64, u64),
    /// Seconds since 1970.
    pub mtime: u64,
    /// Size in bytes.
    pub size: u64,
    /// The target of a link.
    pub target: Option<Vec<u8>>,
    /// Digest of a file's content.
    pub content: Option<String>,
}

/// Passes bytes on, and counts and hashes them.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    size: u64,
}

impl<R: Read> Hashing<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new(), size: 0 }
    }

    fn digest(self) -> String {
        format!("sha256:{}", hex::encode(self.hasher.finalize()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        self.size += length as u64;
        Ok(length)
    }
}

/// sha256 in the form of digests.
pub fn sha256(mut content: impl Read) -> io::Result<String> {
    let mut hashing = Hashing::new(&mut content);
    io::copy(&mut hashing, &mut io::sink())?;
    Ok(hashing.digest())
}

impl Layer {
    /// Reads a gzip layer piece by piece.
    ///
    /// # Errors
    /// If it is not gzip or not a tar, or its source fails.
    pub fn read(compressed: impl Read) -> io::Result<Self> {
        let compressed = Hashing::new(BufReader::with_capacity(1 << 18, compressed));
        let mut tar = Hashing::new(MultiGzDecoder::new(compressed));
        let mut entries = Vec::new();
        let mut archive = Archive::new(&mut tar);
        for entry in archive.entries()? {
            entries.push(Entry::read(entry?)?);
        }
        // Bytes after the end of the archive are part of the layer too.
        io::copy(&mut tar, &mut io::sink())?;
        let Hashing { inner: gzip, hasher, .. } = tar;
        let diff_id = format!("sha256:{}", hex::encode(hasher.finalize()));
        let compressed = gzip.into_inner();
        Ok(Self { size: compressed.size, digest: compressed.digest(), diff_id, entries })
    }
}

impl Entry {
    fn read<R: Read>(mut entry: tar::Entry<'_, R>) -> io::Result<Self> {
        let header = entry.header();
        let (kind, mode, size) = (header.entry_type(), header.mode()?, entry.size());
        let (owner, mtime) = ((header.uid()?, header.gid()?), header.mtime()?);
        let mut path = entry.path_bytes().into_owned();
        while path.ends_with(b"/") {
            path.pop();
        }
        let target = entry.link_name_bytes().map(|target| target.into_owned());
        let content = if kind == EntryType::Regular { Some(sha256(&mut entry)?) } else { None };
        Ok(Self { path, kind, mode, owner, mtime, size, target, content })
    }
}
