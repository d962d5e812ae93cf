//! A tree of files that goes into a layer, and where it is read from.

use super::{PackingError, disk::DiskTree, tree_reader::TreeReader};
use firn_shared::{StorePath, archive::ImagePath};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A file tree on this machine, and its path in the image.
pub struct FileTree {
    pub(super) at: ImagePath,
    pub(super) reader: Box<dyn TreeReader>,
}

impl FileTree {
    /// A tree that this reads.
    pub fn new(at: ImagePath, reader: impl TreeReader + 'static) -> Self {
        Self { at, reader: Box::new(reader) }
    }

    /// A store path, read from the file system's `/nix/store`.
    pub fn store_path(path: &StorePath) -> Self {
        Self::relocated(path.into(), path.as_str().into())
    }

    /// A store path, read by this.
    pub fn of_store_path(path: &StorePath, reader: impl TreeReader + 'static) -> Self {
        Self::new(path.into(), reader)
    }

    /// Any absolute path. It has the same path in the image.
    pub fn absolute(path: &Path) -> Result<Self, PackingError> {
        let at = ImagePath::parse(path.as_os_str().as_bytes())
            .map_err(|source| PackingError::Path { path: path.into(), source })?;
        Ok(Self::relocated(at, path.into()))
    }

    /// A tree whose path on this machine differs from its path in the image, such as a store below another root.
    pub fn relocated(at: ImagePath, from: PathBuf) -> Self {
        Self::new(at, DiskTree::new(from))
    }
}
