//! A tree of files that goes into a layer, and where it is read from.

use super::{PackingError, disk::DiskTree, file_content::FileContent};
use firn_shared::{StorePath, archive::ImagePath};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A file tree on this machine, and its path in the image.
pub struct FileTree {
    pub(super) at: ImagePath,
    pub(super) reader: Box<dyn TreeReader>,
}

/// Reads a file tree step by step: the root, and after each directory what it holds, in the order of the bytes of names,
/// and then [`Step::Leave`]. A NAR has the same order.
///
/// Packing checks the names and their order, adds up the size of the NAR, and finds equal files.
pub trait TreeReader: Send {
    /// Where the root is read from, for error messages.
    fn origin(&self) -> &Path;

    /// The next step; none at the end of the tree.
    ///
    /// # Errors
    /// When the tree cannot be read, or holds what no store path holds.
    fn step(&mut self) -> Result<Option<Step>, PackingError>;
}

/// One step through a file tree.
#[derive(Debug)]
pub enum Step {
    /// To what has this name in the directory. The name of the root does not count.
    Enter(Vec<u8>, Node),
    /// Out of the directory.
    Leave,
}

/// What a file tree consists of.
#[derive(Debug)]
pub enum Node {
    /// A directory. What it holds comes next.
    Directory,
    /// A symlink with its target.
    Symlink(Vec<u8>),
    /// A regular file.
    File {
        /// Whether it is a program.
        is_executable: bool,
        /// Its bytes.
        content: FileContent,
    },
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
