//! The bytes of a regular file in a stream, which can be read only once and only before the tree's next step.

use super::PackingError;
use super::piece_hashes::{PieceHasher, PieceHashes};
use super::spool::Spool;
use bytes::Bytes;
use std::fmt;
use std::path::Path;

/// Where the bytes of a [`ContentStream`] come from.
pub trait ReadContent: Send {
    /// The next bytes of the file: at least one, and at most `most`, which is not more than are left.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read(&mut self, most: usize) -> Result<Bytes, PackingError>;
}

/// The bytes of a file that can be read only once and only before the tree's next step.
pub struct ContentStream {
    size: u64,
    /// What was read ahead.
    spool: Spool,
    /// How many bytes the source still has.
    in_source: u64,
    source: Box<dyn ReadContent>,
    /// Hashes what comes from the source.
    hasher: Option<PieceHasher>,
}

impl ContentStream {
    /// A file of this size in bytes.
    pub fn new(size: u64, source: impl ReadContent + 'static) -> Self {
        let (spool, source) = (Spool::default(), Box::new(source));
        Self { size, spool, in_source: size, source, hasher: None }
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes were not read yet.
    pub(super) fn left(&self) -> u64 {
        self.spool.left() + self.in_source
    }

    /// The next bytes: at least one if any are left, and at most `most`.
    pub(super) fn read(&mut self, most: usize) -> Result<Bytes, PackingError> {
        match self.spool.read(most)? {
            Some(bytes) => Ok(bytes),
            None => self.read_source(most),
        }
    }

    /// Hashes the pieces of what is read, from the beginning. The hashes are complete when everything has been read.
    pub(super) fn hash(&mut self) -> PieceHashes {
        let hasher = PieceHasher::new(self.size);
        let hashes = hasher.hashes();
        self.hasher = Some(hasher);
        hashes
    }

    /// Stops hashing.
    pub(super) fn stop_hashing(&mut self) {
        self.hasher = None;
    }

    /// Reads one more piece and keeps it until its turn comes, in memory or in a file in this directory. Returns false if
    /// there is none.
    pub(super) fn read_piece_ahead(&mut self, directory: &Path) -> Result<bool, PackingError> {
        let mut wanted = self.in_source.min(PieceHashes::PIECE);
        let is_one = wanted > 0;
        while wanted > 0 {
            let bytes = self.read_source(usize::try_from(wanted).expect("a piece is small"))?;
            wanted -= bytes.len() as u64;
            self.spool.add(bytes, directory)?;
        }
        Ok(is_one)
    }

    fn read_source(&mut self, most: usize) -> Result<Bytes, PackingError> {
        let most = usize::try_from(self.in_source).map_or(most, |left| left.min(most));
        if most == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.source.read(most)?;
        self.in_source -= bytes.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        Ok(bytes)
    }
}

impl fmt::Debug for ContentStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentStream({} bytes, {} left)", self.size, self.left())
    }
}
