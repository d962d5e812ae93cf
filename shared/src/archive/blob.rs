//! A layer of small entries, packed in memory: the symlink forest with `/etc` and `/tmp`.

use super::{ImagePath, Permissions, Writer};
use crate::{DiffId, Digest};
use flate2::{Compression, GzBuilder};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// What an entry contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A directory.
    Directory(Permissions),
    /// A regular file.
    File(Permissions, Vec<u8>),
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
}

/// An entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path in the image.
    pub path: ImagePath,
    /// The content at the path.
    pub content: Content,
}

/// Why entries cannot be packed into a layer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArchiveError {
    /// Two entries have the same path. Clients would silently keep the later one.
    #[error("{0} is given twice")]
    Duplicate(ImagePath),
    /// The parent of an entry is not a directory.
    #[error("{0} lies in something that is not a directory")]
    NotADirectory(ImagePath),
}

/// A layer compressed with gzip, with what a manifest and a config say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The compressed layer.
    pub bytes: Vec<u8>,
    /// The SHA-256 of `bytes`.
    pub digest: Digest,
    /// The SHA-256 of the uncompressed tar.
    pub diff_id: DiffId,
    /// The size of the uncompressed tar, in bytes.
    pub uncompressed: u64,
}

/// Packs entries into a layer.
///
/// The entries may be in any order. Missing parent directories are added with [`Permissions::DIRECTORY`]. The layer is
/// always compressed with gzip, even if the other layers use zstd: every client reads gzip, and the layer is small.
///
/// The bytes depend only on the entries, natively and on wasm32. The encoder, `miniz_oxide`, is the same Rust code
/// everywhere. (`flate2` has other backends that would produce other bytes. No crate of this workspace may enable
/// them; a test pins the digest.)
///
/// # Errors
/// If two entries have the same path, or the parent of an entry is not a directory.
pub fn pack(entries: impl IntoIterator<Item = Entry>) -> Result<Blob, ArchiveError> {
    let tar = tar(&complete(entries)?).expect("writing to memory does not fail");
    let bytes = gzip(&tar).expect("writing to memory does not fail");
    Ok(Blob { digest: Digest::of(&bytes), bytes, diff_id: DiffId::of(&tar), uncompressed: tar.len() as u64 })
}

fn tar(entries: &BTreeMap<ImagePath, Content>) -> io::Result<Vec<u8>> {
    let mut archive = Writer::new(Vec::new());
    for (path, content) in entries {
        match content {
            Content::Directory(permissions) => archive.directory(path, *permissions)?,
            Content::File(permissions, bytes) => {
                archive.file(path, *permissions, bytes.len() as u64, bytes.as_slice())?;
            }
            Content::Symlink(target) => archive.symlink(path, target)?,
        }
    }
    archive.finish()
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::default());
    gzip.write_all(bytes)?;
    gzip.finish()
}

/// Sorts the entries, adds missing parent directories, and refuses entries that no file system can hold.
fn complete(entries: impl IntoIterator<Item = Entry>) -> Result<BTreeMap<ImagePath, Content>, ArchiveError> {
    let mut tree = BTreeMap::new();
    for Entry { path, content } in entries {
        if tree.contains_key(&path) {
            return Err(ArchiveError::Duplicate(path));
        }
        tree.insert(path, content);
    }
    let mut missing = BTreeMap::new();
    for path in tree.keys() {
        // The walk stops at a directory that is in the tree or was added before. So each path is visited once, however
        // deep the entries are nested.
        let mut next = path.parent();
        while let Some(above) = next {
            match tree.get(&above) {
                Some(Content::Directory(_)) => break,
                Some(_) => return Err(ArchiveError::NotADirectory(path.clone())),
                None => {
                    next = above.parent();
                    if missing.insert(above, Content::Directory(Permissions::DIRECTORY)).is_some() {
                        break;
                    }
                }
            }
        }
    }
    tree.append(&mut missing);
    Ok(tree)
}
