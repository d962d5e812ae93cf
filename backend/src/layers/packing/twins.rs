//! Equal files of a store path, whose bytes a layer needs only once.
//!
//! A NAR does not record hard links: what a build had linked (the names of one program: `git` and
//! `git-core/git`, `perl` and `perl5.36.0`) is in the Nix store several times, unless *that* machine has run
//! `nix-store --optimise`. So links are made by content, which is the same on every machine: the layer of a store
//! path has a hard link wherever an earlier file of the path has the same bytes and permissions. In the closure of
//! git that are 7 % of the bytes, which are neither compressed nor stored, sent and unpacked.
//!
//! Only inside a store path, so that what a path becomes does not depend on the company it is packed in. Only
//! large files, which are nearly all that there is to gain: in the closure of git, the files below
//! [`SMALLEST`] that are equal to others are 0.1 % of its bytes.

use super::PackingError;
use super::file_content::FileContent;
use firn_shared::archive::{ImagePath, Permissions};
use std::collections::HashMap;

/// In bytes. Bounds the memory too: one entry for every so many bytes of a path.
const SMALLEST: u64 = 64 << 10;
/// To how many files of its size a file is compared, so that a path with many of one size costs no more than the
/// reading of each a few times over.
const COMPARED: usize = 4;
/// How much is compared at a time, in bytes. Files of one size mostly differ in the first piece.
const PIECE: u64 = 64 << 10;

/// The files of one store path that others may be equal to.
#[derive(Default)]
pub(super) struct Twins {
    by_size: HashMap<(u64, Permissions), Vec<Seen>>,
}

struct Seen {
    at: ImagePath,
    content: FileContent,
}

impl Twins {
    /// The place of an earlier file that has the same `content`; remembers this one if there is none.
    pub(super) fn earlier(
        &mut self,
        at: &ImagePath,
        permissions: Permissions,
        content: &FileContent,
    ) -> Result<Option<ImagePath>, PackingError> {
        let size = content.size();
        if size < SMALLEST {
            return Ok(None);
        }
        let same_size = self.by_size.entry((size, permissions)).or_default();
        for earlier in &*same_size {
            if have_same_bytes(&earlier.content, content)? {
                return Ok(Some(earlier.at.clone()));
            }
        }
        if same_size.len() < COMPARED {
            same_size.push(Seen { at: at.clone(), content: content.clone() });
        }
        Ok(None)
    }
}

/// Compares contents of the same size.
fn have_same_bytes(a: &FileContent, b: &FileContent) -> Result<bool, PackingError> {
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
