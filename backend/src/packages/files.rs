//! Where the files of store paths are looked at: on the disk, or in recorded trees.

use crate::store_paths::{PathTree, TreeNode};
use firn_shared::{StorePath, nix::listing::FileName};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    Symlink,
    /// Anything else.
    File,
}

/// File trees by their places. No function follows a symlink in the last name of a place.
pub(super) trait Files {
    fn kind(&self, place: &Path) -> io::Result<Kind>;

    fn target(&self, symlink: &Path) -> io::Result<PathBuf>;

    /// The names in a directory, in no particular order.
    fn names(&self, directory: &Path) -> io::Result<Vec<(OsString, Kind)>>;

    /// The first bytes of a regular file that lists propagated packages, at most `limit`.
    fn beginning(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>>;
}

/// The disks of this machine.
#[derive(Debug)]
pub(super) struct Disk;

impl From<FileType> for Kind {
    fn from(file_type: FileType) -> Self {
        match file_type {
            kind if kind.is_dir() => Self::Directory,
            kind if kind.is_symlink() => Self::Symlink,
            _ => Self::File,
        }
    }
}

impl Files for Disk {
    fn kind(&self, place: &Path) -> io::Result<Kind> {
        Ok(place.symlink_metadata()?.file_type().into())
    }

    fn target(&self, symlink: &Path) -> io::Result<PathBuf> {
        symlink.read_link()
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<(OsString, Kind)>> {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.file_name(), entry.file_type()?.into()))
        };
        fs::read_dir(directory)?.map(entry).collect()
    }

    fn beginning(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // Opening a pipe would wait for its other end.
        if file.symlink_metadata()?.is_file() {
            File::open(file)?.take(limit).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }
}

/// Recorded trees of store paths.
#[derive(Debug)]
pub(super) struct Trees {
    store: PathBuf,
    by_name: HashMap<Box<[u8]>, Arc<PathTree>>,
}

impl Trees {
    /// These trees, as if they were in a Nix store at this place.
    pub(super) fn new(store: &Path, trees: impl IntoIterator<Item = (StorePath, Arc<PathTree>)>) -> Self {
        let tree = |(path, tree): (StorePath, _)| (path.base_name().as_bytes().into(), tree);
        Self { store: store.to_owned(), by_name: trees.into_iter().map(tree).collect() }
    }

    fn tree(&self, place: &Path) -> Option<(&PathTree, &TreeNode)> {
        let mut names = place.strip_prefix(&self.store).ok()?.iter().map(OsStrExt::as_bytes);
        let tree = self.by_name.get(names.next()?)?;
        Some((tree, tree.node(names)?))
    }

    fn node(&self, place: &Path) -> io::Result<&TreeNode> {
        self.tree(place).map(|(_, node)| node).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl From<&TreeNode> for Kind {
    fn from(node: &TreeNode) -> Self {
        match node {
            TreeNode::Directory(_) => Self::Directory,
            TreeNode::Symlink(_) => Self::Symlink,
            TreeNode::File | TreeNode::Propagated(_) => Self::File,
        }
    }
}

impl Files for Trees {
    fn kind(&self, place: &Path) -> io::Result<Kind> {
        Ok(self.node(place)?.into())
    }

    fn target(&self, symlink: &Path) -> io::Result<PathBuf> {
        match self.node(symlink)? {
            TreeNode::Symlink(target) => Ok(OsStr::from_bytes(target.as_bytes()).into()),
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<(OsString, Kind)>> {
        let (tree, node) = self.tree(directory).ok_or(ErrorKind::NotFound)?;
        let TreeNode::Directory(entries) = node else { return Err(ErrorKind::NotADirectory.into()) };
        let entry = |(name, index): (&FileName, &u32)| {
            let kind = tree.at(*index).ok_or(ErrorKind::InvalidData)?.into();
            Ok((OsStr::from_bytes(name.as_bytes()).to_owned(), kind))
        };
        entries.iter().map(entry).collect()
    }

    fn beginning(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>> {
        match self.node(file)? {
            TreeNode::Propagated(text) => {
                let length = usize::try_from(limit).unwrap_or(usize::MAX).min(text.len());
                Ok(text.as_bytes()[..length].to_vec())
            }
            _ => Ok(Vec::new()),
        }
    }
}
