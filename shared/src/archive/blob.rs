//! A layer of small entries, packed in memory: the symlink forest with `/etc` and `/tmp`.

use super::{ImagePath, Permissions, Writer};
use crate::{DiffId, Digest};
use flate2::{Compression, GzBuilder};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A directory.
    Directory(Permissions),
    /// A regular file.
    File(Permissions, Vec<u8>),
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
}

/// One path of a layer and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: ImagePath,
    /// What it is.
    pub content: Content,
}

/// Why entries do not make a layer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PackError {
    /// The same path twice: clients would keep the later one without a word.
    #[error("{0} is given twice")]
    Duplicate(ImagePath),
    /// An entry inside something that is not a directory.
    #[error("{0} lies in something that is not a directory")]
    NotADirectory(ImagePath),
}

/// A layer in gzip and all that a manifest and a config say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The compressed layer.
    pub bytes: Vec<u8>,
    /// The sha256 of `bytes`.
    pub digest: Digest,
    /// The sha256 of the tar inside.
    pub diff_id: DiffId,
    /// Bytes in the tar inside.
    pub uncompressed: u64,
}

/// Packs entries into a layer.
///
/// The entries may come in any order; directories that lead to one and are not given are added as
/// [`Permissions::DIRECTORY`]. It is always gzip, whatever the other layers are: every client reads it, and it is small.
/// The bytes depend on nothing but the entries, natively and on wasm32: the encoder, `miniz_oxide`, is in Rust and the
/// same code everywhere. (`flate2` has other backends that would produce other bytes; no crate of this workspace may
/// switch them on, and a test pins the digest.)
pub fn pack(entries: impl IntoIterator<Item = Entry>) -> Result<Blob, PackError> {
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

/// Sorts, adds the directories that lead to each entry, and refuses what no file system can hold.
fn complete(entries: impl IntoIterator<Item = Entry>) -> Result<BTreeMap<ImagePath, Content>, PackError> {
    let mut tree = BTreeMap::new();
    for Entry { path, content } in entries {
        if tree.contains_key(&path) {
            return Err(PackError::Duplicate(path));
        }
        tree.insert(path, content);
    }
    let mut missing = BTreeMap::new();
    for path in tree.keys() {
        // What is above an entry that is given, or that was added, is looked at for that one: once for each path, however
        // deep they are nested.
        let mut next = path.parent();
        while let Some(above) = next {
            match tree.get(&above) {
                Some(Content::Directory(_)) => break,
                Some(_) => return Err(PackError::NotADirectory(path.clone())),
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
