//! A tree of files that goes into a layer, and where it is read from.

use super::PackingError;
use firn_shared::StorePath;
use firn_shared::archive::ImagePath;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A file tree on this machine, and its path in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    pub(super) at: ImagePath,
    pub(super) from: PathBuf,
}

impl Tree {
    /// A store path, read from the file system's `/nix/store`.
    pub fn store_path(path: &StorePath) -> Self {
        Self { at: path.into(), from: path.as_str().into() }
    }

    /// Any absolute path. It has the same path in the image.
    pub fn absolute(path: &Path) -> Result<Self, PackingError> {
        let at = ImagePath::parse(path.as_os_str().as_bytes())
            .map_err(|source| PackingError::Path { path: path.into(), source })?;
        Ok(Self { at, from: path.into() })
    }

    /// A tree whose path on this machine differs from its path in the image, such as a store below another root.
    pub fn relocated(at: ImagePath, from: PathBuf) -> Self {
        Self { at, from }
    }
}
