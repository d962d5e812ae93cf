//! Finds equal files in a store path. A layer stores their bytes only once.
//!
//! A NAR does not record hard links. If a build linked files (the names of one program: `git` and `git-core/git`,
//! `perl` and `perl5.36.0`), the Nix store has copies, unless *that* machine has run `nix-store --optimise`. So links
//! are made by content, which is the same on every machine: if an earlier file of the path has the same bytes and
//! permissions, the layer has a hard link to it. In the closure of git this saves 7 % of the bytes, which are neither
//! compressed, stored, sent nor unpacked.
//!
//! Only files inside one store path are compared, so that the bytes of a path do not depend on other paths in the
//! layer. Only large files are compared, because they bring nearly all of the gain: in the closure of git, equal
//! files below [`SMALLEST`] are 0.1 % of the bytes.
//!
//! Files that cannot be read again are compared by hashes of their pieces. Such a file waits only while all its pieces
//! so far are those of an earlier file of the same size.

use super::PackingError;
use super::content_stream::ContentStream;
use super::file_content::FileContent;
use super::piece_hashes::{PieceHash, PieceHasher, PieceHashes};
use super::still_content::StillContent;
use firn_shared::archive::{ImagePath, Permissions};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// In bytes. This also limits the memory: at most one entry for this many bytes of a path.
const SMALLEST: u64 = 64 << 10;
/// How many files of the same size a file is compared to, so that each file of a path is read only a few times.
const COMPARED: usize = 4;
/// How many bytes are compared at a time. Files of one size usually differ in the first piece.
const PIECE: u64 = PieceHashes::PIECE;

/// The files of one store path that later files are compared to.
pub(super) struct Twins {
    by_size: HashMap<(u64, Permissions), Vec<Seen>>,
    /// Where files wait while they may be equal to an earlier one.
    spool: Arc<Path>,
}

/// What became of a file.
pub(super) enum Compared {
    /// It is equal to the earlier file at this path.
    Equal(ImagePath),
    /// It is none of the earlier files, and has this content.
    New(FileContent),
}

struct Seen {
    at: ImagePath,
    content: Remembered,
}

/// How a file is remembered.
enum Remembered {
    Content(StillContent),
    Hashes(PieceHashes),
}

impl Twins {
    pub(super) fn new(spool: &Arc<Path>) -> Self {
        Self { by_size: HashMap::new(), spool: Arc::clone(spool) }
    }

    /// Compares a file to the earlier ones. If it is new, remembers it.
    pub(super) fn compare(
        &mut self,
        at: &ImagePath,
        permissions: Permissions,
        content: FileContent,
    ) -> Result<Compared, PackingError> {
        let size = content.size();
        if size < SMALLEST {
            return Ok(Compared::New(content));
        }
        let same_size = self.by_size.entry((size, permissions)).or_default();
        match content {
            FileContent::Bytes(bytes) => compare_still(same_size, at, StillContent::Bytes(bytes)),
            FileContent::File(file) => compare_still(same_size, at, StillContent::File(file)),
            FileContent::Stream(stream) => compare_stream(same_size, at, stream, &self.spool),
        }
    }
}

fn compare_still(
    same_size: &mut Vec<Seen>,
    at: &ImagePath,
    content: StillContent,
) -> Result<Compared, PackingError> {
    for earlier in &*same_size {
        if earlier.content.has_bytes_of(&content)? {
            return Ok(Compared::Equal(earlier.at.clone()));
        }
    }
    if same_size.len() < COMPARED {
        same_size.push(Seen { at: at.clone(), content: Remembered::Content(content.clone()) });
    }
    Ok(Compared::New(content.into()))
}

fn compare_stream(
    same_size: &mut Vec<Seen>,
    at: &ImagePath,
    mut stream: Box<ContentStream>,
    spool: &Path,
) -> Result<Compared, PackingError> {
    let hashes = stream.hash();
    let mut maybe_equal: Vec<&Seen> = same_size.iter().collect();
    let mut piece = 0;
    while !maybe_equal.is_empty() {
        if !stream.read_piece_ahead(spool)? {
            return Ok(Compared::Equal(maybe_equal[0].at.clone()));
        }
        let hash = hashes.get(piece);
        let mut still_equal = Vec::new();
        for earlier in maybe_equal {
            if earlier.content.piece_hash(piece)? == hash {
                still_equal.push(earlier);
            }
        }
        maybe_equal = still_equal;
        piece += 1;
    }
    if same_size.len() < COMPARED {
        same_size.push(Seen { at: at.clone(), content: Remembered::Hashes(hashes) });
    } else {
        stream.stop_hashing();
    }
    Ok(Compared::New(FileContent::Stream(stream)))
}

impl Remembered {
    /// Compares contents of the same size.
    fn has_bytes_of(&self, other: &StillContent) -> Result<bool, PackingError> {
        match self {
            Self::Content(content) => have_same_bytes(content, other),
            Self::Hashes(hashes) => {
                for piece in 0..other.size().div_ceil(PIECE) as usize {
                    if hashes.get(piece) != piece_hash(other, piece)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    fn piece_hash(&self, piece: usize) -> Result<Option<PieceHash>, PackingError> {
        match self {
            Self::Content(content) => piece_hash(content, piece),
            Self::Hashes(hashes) => Ok(hashes.get(piece)),
        }
    }
}

/// The hash of a piece of a content that has this piece.
fn piece_hash(content: &StillContent, piece: usize) -> Result<Option<PieceHash>, PackingError> {
    let offset = piece as u64 * PIECE;
    let mut bytes = vec![0; (content.size() - offset).min(PIECE) as usize];
    let open = content.open()?;
    open.read(offset, &mut bytes)?;
    open.finish()?;
    let mut hasher = PieceHasher::new(bytes.len() as u64);
    hasher.update(&bytes);
    Ok(hasher.hashes().get(0))
}

/// Compares contents of the same size.
fn have_same_bytes(a: &StillContent, b: &StillContent) -> Result<bool, PackingError> {
    let (open_a, open_b) = (a.open()?, b.open()?);
    let (mut bytes_a, mut bytes_b) = (vec![0; PIECE as usize], vec![0; PIECE as usize]);
    let mut offset = 0;
    let size = a.size();
    while offset < size {
        let length = (size - offset).min(PIECE) as usize;
        let (bytes_a, bytes_b) = (&mut bytes_a[..length], &mut bytes_b[..length]);
        open_a.read(offset, bytes_a)?;
        open_b.read(offset, bytes_b)?;
        if bytes_a != bytes_b {
            return Ok(false);
        }
        offset += PIECE;
    }
    open_a.finish()?;
    open_b.finish()?;
    Ok(true)
}
