//! Hashes of the pieces of a file, by which files are compared that cannot be read again.

use sha2::{Digest as _, Sha256};
use std::sync::{Arc, Mutex, MutexGuard};

pub(super) type PieceHash = [u8; 32];

/// The sha256 of each [`PIECE`](Self::PIECE) of a file, as far as it has been read. Two files are equal if they have the
/// same size and the same hashes.
#[derive(Debug, Clone, Default)]
pub(super) struct PieceHashes(Arc<Mutex<Vec<PieceHash>>>);

impl PieceHashes {
    /// In bytes. Files of one size usually differ in the first piece.
    pub(super) const PIECE: u64 = 64 << 10;

    /// The hash of the piece of this number, if it has been read.
    pub(super) fn get(&self, piece: usize) -> Option<PieceHash> {
        self.lock().get(piece).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PieceHash>> {
        self.0.lock().expect("nothing panics while it is locked")
    }
}

/// Computes [`PieceHashes`] while a file is read.
pub(super) struct PieceHasher {
    hashes: PieceHashes,
    piece: Sha256,
    /// How many bytes the piece lacks.
    lacks: u64,
    /// How many bytes of the file come after the piece.
    after: u64,
}

impl PieceHasher {
    /// For a file of this size in bytes.
    pub(super) fn new(size: u64) -> Self {
        let lacks = size.min(PieceHashes::PIECE);
        Self { hashes: PieceHashes::default(), piece: Sha256::new(), lacks, after: size - lacks }
    }

    pub(super) fn hashes(&self) -> PieceHashes {
        self.hashes.clone()
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.lacks > 0 {
            let taken = usize::try_from(self.lacks).map_or(bytes.len(), |lacks| lacks.min(bytes.len()));
            let (now, later) = bytes.split_at(taken);
            self.piece.update(now);
            bytes = later;
            self.lacks -= taken as u64;
            if self.lacks == 0 {
                self.hashes.lock().push(self.piece.finalize_reset().into());
                self.lacks = self.after.min(PieceHashes::PIECE);
                self.after -= self.lacks;
            }
        }
    }
}
