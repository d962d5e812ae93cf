//! What commands write: files, and images as files for use without a registry.

mod docker_archive;
mod file;
mod oci_layout;

pub(crate) use file::OutputFile;

use crate::store::{ImageRecord, Store, StoreError, Tree};
use firn_shared::Digest;
use futures::TryStreamExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tokio::io::AsyncWriteExt;

/// Where to write an image, and in which format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImageOutput {
    /// `oci:DIR`, a directory in the OCI image layout.
    OciLayout(PathBuf),
    /// `docker-archive:FILE`, a tar as `docker save` writes it.
    DockerArchive(PathBuf),
}

/// The text does not name an output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an output is oci:DIR or docker-archive:FILE")]
pub(crate) struct ParseOutputError;

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A blob of the image is missing from the store.
    #[error("{0} is missing from the store")]
    Missing(Digest),
    /// A manifest of the image is missing from the store, or is something else.
    #[error("the image's manifest {0} cannot be read")]
    Manifest(Digest),
    /// The form has no place for an image of several platforms.
    #[error("an image of several platforms can be written as oci:DIR alone")]
    SeveralPlatforms,
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl FromStr for ImageOutput {
    type Err = ParseOutputError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("oci", dir)) if !dir.is_empty() => Ok(Self::OciLayout(dir.into())),
            Some(("docker-archive", file)) if !file.is_empty() => Ok(Self::DockerArchive(file.into())),
            _ => Err(ParseOutputError),
        }
    }
}

impl ImageOutput {
    /// Writes an image. What existed there before stays until the new image is complete.
    ///
    /// # Errors
    /// If the store cannot be read or the output cannot be written.
    pub(crate) async fn write(
        &self,
        store: &Store,
        image: &ImageRecord,
        tag: &str,
    ) -> Result<(), OutputError> {
        match self {
            Self::OciLayout(dir) => oci_layout::write(dir, store, image, tag).await,
            Self::DockerArchive(file) => docker_archive::write(file, store, image, tag).await,
        }
    }
}

/// An image's first document, and all that it leads to.
async fn tree(store: &Store, image: &ImageRecord) -> Result<Tree, OutputError> {
    let tree = store.tree(&image.documents()[..1]).await?;
    match tree.broken.first() {
        Some(broken) => Err(OutputError::Manifest(broken.digest)),
        None => Ok(tree),
    }
}

/// Starts a file of an image.
fn create(path: &Path) -> Result<(OutputFile, tokio::fs::File), OutputError> {
    let output = OutputFile::create(path).map_err(error(path))?;
    let file = output.file().try_clone().map_err(error(path))?;
    Ok((output, file.into()))
}

/// Completes a file that [`create`] started.
async fn complete(output: OutputFile, mut file: tokio::fs::File, path: &Path) -> Result<(), OutputError> {
    file.flush().await.map_err(error(path))?;
    // Completing waits for the disk.
    let completed = tokio::task::spawn_blocking(move || output.complete());
    completed.await.expect("completing a file does not panic").map_err(error(path))
}

/// Copies a blob of any size into a file that is being written.
async fn copy_blob(
    store: &Store,
    digest: &Digest,
    file: &mut tokio::fs::File,
    path: &Path,
) -> Result<(), OutputError> {
    let mut reader = store.open_blob(digest, None).await?.ok_or(OutputError::Missing(*digest))?;
    while let Some(bytes) = reader.bytes.try_next().await? {
        file.write_all(&bytes).await.map_err(error(path))?;
    }
    Ok(())
}

fn error(path: &Path) -> impl FnOnce(std::io::Error) -> OutputError {
    let path = path.to_owned();
    |source| OutputError::Write { path, source }
}
