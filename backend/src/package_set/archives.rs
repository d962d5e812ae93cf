//! Downloads the archive of a commit, and unpacks it while it arrives.

use super::unpack::{Unpacked, unpack};
use bytes::{Buf as _, Bytes};
use firn_shared::naming::package_source::Commit;
use flate2::read::MultiGzDecoder;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a host may be silent. GitHub makes an archive of nixpkgs in some ten seconds, if it has none yet.
const SILENCE: Duration = Duration::from_secs(60);
/// How long it may take to reach a host. Less than a person waits before looking for another cause.
const CONNECT: Duration = Duration::from_secs(10);
/// How many pieces of the download wait to be unpacked.
const PIECES: usize = 32;

/// Why there are no files from an archive.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    /// The host does not deliver it.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// It is no archive of this commit, or cannot be stored.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It has more bytes than a package set may have.
    #[error("it is too large")]
    TooLarge,
    /// It is of another commit, or does not say of which.
    #[error("it is not of this commit but of {0:?}")]
    Another(Option<String>),
}

/// Puts the files of a commit into the directory `source` of `made`, from the archive at this URL. Returns the commit time
/// in seconds since 1970.
///
/// # Errors
/// If the host has no such archive, or it is not what it should be.
pub(super) async fn fetch(url: &str, commit: &Commit, made: PathBuf) -> Result<i64, ArchiveError> {
    let client = reqwest::Client::builder()
        .https_only(url.starts_with("https://"))
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .user_agent(concat!("firn/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let mut response = client.get(url).send().await?.error_for_status()?;
    let (sender, receiver) = mpsc::channel(PIECES);
    let unpacking = tokio::task::spawn_blocking(move || {
        let reader = Pieces { receiver, current: Bytes::new() };
        from_archive(MultiGzDecoder::new(reader), &made)
    });
    let download = async move {
        while let Some(bytes) = response.chunk().await? {
            // It is not read to its end if unpacking fails.
            if sender.send(bytes).await.is_err() {
                break;
            }
        }
        Ok::<_, reqwest::Error>(())
    };
    let (downloaded, unpacked) = tokio::join!(download, unpacking);
    downloaded?;
    let unpacked = unpacked.map_err(io::Error::other)??;
    if unpacked.commit.as_deref() != Some(commit.as_str()) {
        return Err(ArchiveError::Another(unpacked.commit));
    }
    let time = unpacked.time.and_then(|time| i64::try_from(time).ok());
    time.ok_or_else(|| io::Error::other("it has no files").into())
}

/// Unpacks an archive. Its only directory becomes `source`.
fn from_archive(archive: impl Read, made: &Path) -> Result<Unpacked, ArchiveError> {
    let whole = made.join("archive");
    fs::create_dir_all(&whole)?;
    let unpacked = unpack(archive, &whole).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => ArchiveError::TooLarge,
        _ => error.into(),
    })?;
    let mut entries = fs::read_dir(&whole)?;
    match (entries.next().transpose()?, entries.next()) {
        (Some(entry), None) if entry.file_type()?.is_dir() => fs::rename(entry.path(), made.join("source"))?,
        _ => return Err(io::Error::other("it does not consist of one directory").into()),
    }
    fs::remove_dir(&whole)?;
    Ok(unpacked)
}

/// The pieces of a download, for a thread that unpacks them.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(bytes) => self.current = bytes,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
