//! A layer of small entries, packed in memory: the symlink forest with `/etc` and `/tmp`.

use super::{ImagePath, Permissions, Writer};
use crate::{DiffId, Digest};
use flate2::{Compression, GzBuilder};
use sha2::Digest as _;
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

/// A gzip-compressed layer and all that a manifest and a config say about it.
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

/// Packs entries into a layer in one pass: tar, sha256, gzip, sha256.
///
/// The entries may come in any order; directories that lead to one and are not given are added as
/// [`Permissions::DIRECTORY`]. The bytes depend on nothing but the entries, natively and on wasm32: the
/// deflate encoder is `miniz_oxide`, in Rust, the same code everywhere. (`flate2` has other backends that
/// would produce other bytes; no crate of this workspace may switch them on, and a test pins the digest.)
pub fn pack(entries: impl IntoIterator<Item = Entry>) -> Result<Blob, PackError> {
    let entries = complete(entries)?;
    let gzip = GzBuilder::new().write(Sha256Writer::new(Vec::new()), Compression::default());
    let mut archive = Writer::new(Sha256Writer::new(gzip));
    let mut write = || {
        for (path, content) in &entries {
            match content {
                Content::Directory(permissions) => archive.directory(path, *permissions)?,
                Content::File(permissions, bytes) => {
                    archive.file(path, *permissions, bytes.len() as u64, bytes.as_slice())?;
                }
                Content::Symlink(target) => archive.symlink(path, target)?,
            }
        }
        io::Result::Ok(())
    };
    write().expect("writing to memory does not fail");
    let tar = archive.finish().expect("writing to memory does not fail");
    let compressed = tar.inner.finish().expect("writing to memory does not fail");
    Ok(Blob {
        digest: Digest::from_hasher(compressed.hasher),
        bytes: compressed.inner,
        diff_id: DiffId::from_hasher(tar.hasher),
        uncompressed: tar.count,
    })
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
        for ancestor in path.ancestors() {
            match tree.get(&ancestor) {
                Some(Content::Directory(_)) => {}
                Some(_) => return Err(PackError::NotADirectory(path.clone())),
                None => {
                    missing.insert(ancestor, Content::Directory(Permissions::DIRECTORY));
                }
            }
        }
    }
    tree.append(&mut missing);
    Ok(tree)
}

/// Passes bytes on and remembers how many they were and their sha256.
struct Sha256Writer<W> {
    inner: W,
    hasher: sha2::Sha256,
    count: u64,
}

impl<W> Sha256Writer<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: sha2::Sha256::new(), count: 0 }
    }
}

impl<W: Write> Write for Sha256Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
