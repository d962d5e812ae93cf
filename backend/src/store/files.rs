//! Writing objects as files that are there whole, and still there after a power cut.
//!
//! A file is written aside on the same file system, synced, renamed to its place, and then its directory is
//! synced: what has a name is whole, and what was acknowledged has a name. `object_store` does the same, but
//! writes beside the object, where a killed process leaves its half; here everything unfinished is in one
//! folder (see `OwnFolder`). Syncs of many files at once share a journal commit of the file system, so callers
//! that write many files write them at once.

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
    /// The objects in this directory, which exists; `staging` is on the same file system.
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

    /// Writes a small object where there is none. Returns whether it did.
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

    /// Makes an object of a file that was written in the staging folder.
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

/// Syncs the file, gives it its name below `root`, and syncs that. It replaces one of that name.
fn place(file: NamedTempFile, root: &Path, path: &Path) -> io::Result<()> {
    place_with(file, root, path, |file| file.persist(path))
}

/// The same, with another way to give the file its name.
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

/// Makes the directory and those above it as far as `root`, each durable.
fn make_directory(root: &Path, dir: &Path) -> io::Result<()> {
    if dir.is_dir() || dir == root {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(root);
    make_directory(root, parent)?;
    match std::fs::create_dir(dir) {
        // Somebody else has just made it, and may not have synced it yet.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => result?,
    }
    sync_directory(parent)
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
