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

use super::PackingError;
use super::file_content::FileContent;
use firn_shared::archive::{ImagePath, Permissions};
use std::collections::HashMap;

/// In bytes. This also limits the memory: at most one entry for this many bytes of a path.
const SMALLEST: u64 = 64 << 10;
/// How many files of the same size a file is compared to, so that each file of a path is read only a few times.
const COMPARED: usize = 4;
/// How many bytes are compared at a time. Files of one size usually differ in the first piece.
const PIECE: u64 = 64 << 10;

/// The files of one store path that later files are compared to.
#[derive(Default)]
pub(super) struct Twins {
    by_size: HashMap<(u64, Permissions), Vec<Seen>>,
}

struct Seen {
    at: ImagePath,
    content: FileContent,
}

impl Twins {
    /// The path of an earlier file that is equal to `file`. If there is none, remembers `file`.
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
