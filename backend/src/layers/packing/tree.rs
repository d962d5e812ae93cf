//! What goes into a layer: file trees, wherever they are read from.

use super::{PackingError, disk::DiskTree, tree_reader::TreeReader};
use firn_shared::{StorePath, archive::ImagePath};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A file tree and its place in the image.
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

    /// Any absolute path, which has the same place in the image.
    ///
    /// # Errors
    /// When the path is not absolute, or has `.` or `..` in it.
    pub fn absolute(path: &Path) -> Result<Self, PackingError> {
        let at = ImagePath::parse(path.as_os_str().as_bytes())
            .map_err(|source| PackingError::Path { path: path.into(), source })?;
        Ok(Self::relocated(at, path.into()))
    }

    /// A tree that is elsewhere on this machine than in the image: a store below another root.
    pub fn relocated(at: ImagePath, from: PathBuf) -> Self {
        Self::new(at, DiskTree::new(from))
    }
}
