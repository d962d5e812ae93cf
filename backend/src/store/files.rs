//! Writes objects as files that are always complete, and survive a power failure.
//!
//! A file is written to a temporary name on the same file system, synced, and renamed; then its directory is synced.
//! So a file with its final name is complete, and a file whose write was acknowledged has its name. `object_store`
//! does the same, but puts its temporary file beside the object, where a killed process leaves it. Here all
//! unfinished files are in one folder (see `staging`). Syncs of many files at once share one journal commit of the
//! file system, so a caller with many files should write them at once.

use super::StoreError;
use crate::process::OwnFolder;
use object_store::path::Path as Location;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::{NamedTempFile, PersistError};

/// A directory of objects.
#[derive(Debug, Clone)]
pub(super) struct Files {
    root: PathBuf,
    staging: Arc<OwnFolder>,
}

impl Files {
    /// The objects in this directory, which must exist. `staging` must be on the same file system.
    pub(super) fn new(root: PathBuf, staging: Arc<OwnFolder>) -> Self {
        Self { root, staging }
    }

    /// Writes a small object.
    pub(super) async fn write(&self, location: &Location, bytes: Vec<u8>) -> Result<(), StoreError> {
        let (staging, path) = (Arc::clone(&self.staging), self.path(location));
        let root = self.root.clone();
        blocking(path, move |path| {
            let mut file = staging.file()?;
            file.write_all(&bytes)?;
            place(file, &root, path)
        })
        .await
    }

    /// Writes a small object unless it exists. Returns whether it was written.
    pub(super) async fn create(&self, location: &Location, bytes: Vec<u8>) -> Result<bool, StoreError> {
        let staging = Arc::clone(&self.staging);
        let root = self.root.clone();
        blocking(self.path(location), move |path| {
            let mut file = staging.file()?;
            file.write_all(&bytes)?;
            let placed = place_with(file, &root, path, |file| file.persist_noclobber(path));
            match placed {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                placed => placed.map(|()| true),
            }
        })
        .await
    }

    /// Turns a file in the staging folder into an object.
    pub(super) async fn adopt(&self, file: NamedTempFile, location: &Location) -> Result<(), StoreError> {
        let root = self.root.clone();
        blocking(self.path(location), move |path| place(file, &root, path)).await
    }

    fn path(&self, location: &Location) -> PathBuf {
        self.root.join(location.as_ref())
    }
}

async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let at = path.clone();
    let done = tokio::task::spawn_blocking(move || work(&at)).await;
    done.map_err(io::Error::other).flatten().map_err(|source| StoreError::File { path, source })
}

/// Syncs the file, renames it to its path below `root`, and syncs the directory. Replaces a file at that path.
fn place(file: NamedTempFile, root: &Path, path: &Path) -> io::Result<()> {
    place_with(file, root, path, |file| file.persist(path))
}

/// Like [`place`], with another way to rename the file.
fn place_with(
    file: NamedTempFile,
    root: &Path,
    path: &Path,
    name: impl FnOnce(NamedTempFile) -> Result<File, PersistError>,
) -> io::Result<()> {
    file.as_file().sync_all()?;
    let parent = path.parent().unwrap_or(root);
    make_directory(root, parent)?;
    name(file).map_err(|error| error.error)?;
    sync_directory(parent)
}

/// Creates the directory and those above it up to `root`, and syncs each.
fn make_directory(root: &Path, dir: &Path) -> io::Result<()> {
    if dir.is_dir() || dir == root {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(root);
    make_directory(root, parent)?;
    match std::fs::create_dir(dir) {
        // Another writer has just created it, and may not have synced it yet.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => result?,
    }
    sync_directory(parent)
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
