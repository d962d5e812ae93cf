//! The files of a commit. They are fetched into the data directory, and Nix reads them there.
//!
//! **From where.** Some hosts serve archives of commits ([`archive_hosts`](super::archive_hosts)). Git fetches from all
//! others, what is private, and what an archive cannot be had of.
//!
//! **What git fetches** is the one commit, without its history. If a host cannot serve single commits, all its
//! branches and tags are fetched, but nothing else, such as pull requests. Each fetch uses a new repository, which is
//! removed afterwards. So no repository grows or stays locked by a killed process, and nothing that one revision
//! fetched is visible in another.
//!
//! **Where it is.** `sources/<key>/` holds the files (`source`), the commit time (`date`) and `lock`. The folder is
//! created whole, by renaming. The hash of a flake's files (`nar-hash`) is added when it is needed. It is locked while it is read. If there are more than [`KEPT`] folders, the least
//! recently used ones are removed. Several processes may use the same data directory.

use super::{
    RepositoryError,
    archive_hosts::ArchiveHosts,
    archives::{self, ArchiveError},
    git::{Git, GitError, Interrupted},
    unpack::{MAX_BYTES, unpack},
};
use crate::{
    process::OwnFolder,
    waiting::Flights,
    waiting::Turns,
    waiting::{Abandoned, Audience},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use firn_shared::{
    cache_key::CacheKey,
    naming::{package_source::Commit, source_url::SourceUrl},
};
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How many checkouts are kept. One of nixpkgs takes 300 MB.
const KEPT: usize = 8;
/// How often the size of a fetch is checked.
const LOOK: Duration = Duration::from_millis(500);
/// How many commits are fetched at once. Builds wait for a fetch, and the number of builds is limited.
const AT_ONCE: usize = 2;
/// How long a failed fetch is remembered.
const FAILURE_INTERVAL: Duration = Duration::from_secs(10);
/// How many failed fetches are remembered. There must be a limit because callers choose commits.
const MAX_FAILURES: u64 = 1000;

/// How the hash of the files begins.
const NAR_HASH: &str = "sha256-";
/// How much of the files is read at a time, in bytes.
const NAR_BUFFER: usize = 64 << 10;

/// Git's messages if a host cannot serve single commits: it has an old protocol, or is a plain web server.
const NO_SINGLE_COMMITS: [&str; 2] = ["unadvertised object", "does not support shallow capabilities"];
/// Git's messages if the host does not have the commit.
const NO_SUCH_COMMIT: [&str; 2] = ["not our ref", "bad object"];

type FetchResult = Result<Checkout, RepositoryError>;

/// The checkouts of a data directory.
#[derive(Debug)]
pub(super) struct Checkouts {
    parent: PathBuf,
    /// The directory for fetches. What a killed process left there has been removed.
    staging: OwnFolder,
    limit: Duration,
    /// The hosts whose archives are used.
    hosts: ArchiveHosts,
    fetches: Flights<FetchResult>,
    failures: Cache<CacheKey, RepositoryError>,
    turns: Arc<Turns>,
}

/// The files of a commit. They are kept while this exists.
#[derive(Debug, Clone)]
pub(super) struct Checkout {
    dir: PathBuf,
    date: Option<i64>,
    _lock: Arc<File>,
}

impl Checkout {
    /// The directory of the files.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.join("source")
    }

    /// Commit time in seconds since 1970.
    pub(super) fn date(&self) -> Option<i64> {
        self.date
    }

    /// The SHA-256 of the files as a NAR, in the form that lock files of flakes have. It is computed once.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub(super) async fn nar_hash(&self) -> Result<String, RepositoryError> {
        let (files, known) = (self.path(), self.dir.join("nar-hash"));
        let read = move || {
            if let Ok(hash) = fs::read_to_string(&known)
                && hash.starts_with(NAR_HASH)
            {
                return Ok(hash);
            }
            let mut hasher = Sha256::new();
            let encoder = nix_nar::Encoder::builder(&files).internal_buffer_size(NAR_BUFFER).build();
            let mut nar = encoder.map_err(io::Error::other)?;
            let mut buffer = vec![0; NAR_BUFFER];
            loop {
                match nar.read(&mut buffer)? {
                    0 => break,
                    length => hasher.update(&buffer[..length]),
                }
            }
            let hash = format!("{NAR_HASH}{}", BASE64.encode(hasher.finalize()));
            // A reader must not see half of it. On a read-only file system, it is computed each time.
            let _ = tempfile::NamedTempFile::new_in(known.parent().expect("it is in a folder")).and_then(
                |file| {
                    fs::write(file.path(), &hash)?;
                    Ok(file.persist(&known)?)
                },
            );
            Ok(hash)
        };
        let hash = tokio::task::spawn_blocking(read).await.map_err(io::Error::other).flatten();
        hash.map_err(|error: io::Error| RepositoryError::Disk(error.to_string()))
    }
}

impl Checkouts {
    /// The checkouts in a data directory. `limit` is the timeout of a fetch.
    ///
    /// # Errors
    /// If the directory cannot be written to.
    pub(super) fn new(data: &Path, limit: Duration) -> io::Result<Self> {
        let parent = data.join("sources");
        fs::create_dir_all(&parent)?;
        Ok(Self {
            // Nix's expressions see this path, so it must not contain symbolic links.
            parent: parent.canonicalize()?,
            staging: OwnFolder::new(&data.join("fetching"))?,
            limit,
            hosts: ArchiveHosts::default(),
            fetches: Flights::default(),
            failures: Cache::builder().max_capacity(MAX_FAILURES).time_to_live(FAILURE_INTERVAL).build(),
            turns: Turns::new(AT_ONCE),
        })
    }

    /// The same, which uses the archives of these hosts.
    pub(super) fn with_archives(self, hosts: ArchiveHosts) -> Self {
        Self { hosts, ..self }
    }

    /// The files of a commit, fetched if they are not there. Callers that want the same commit share one fetch.
    ///
    /// # Errors
    /// If no client waits any more. The error of a fetch is in the inner result.
    pub(super) async fn get(
        self: &Arc<Self>,
        url: &SourceUrl,
        commit: &Commit,
        audience: &Arc<Audience>,
    ) -> Result<FetchResult, Abandoned> {
        let key = CacheKey::builder("source-1").field(url.public().as_str()).field(commit.as_str()).build();
        if let Some(error) = self.failures.get(&key) {
            return Ok(Err(error));
        }
        if let Some(checkout) = self.find(&key) {
            return Ok(Ok(checkout));
        }
        if let Some((fetch, ())) = self.fetches.get(&key) {
            return Ok(fetch.await);
        }
        // The turn is taken here, for this audience, and not inside the fetch, which several audiences share. If
        // another caller has started the fetch meanwhile, the turn is given back.
        let turn = self.turns.take(audience).await?;
        let (checkouts, url, commit) = (Arc::clone(self), url.clone(), commit.clone());
        let fetch = self.fetches.join(key, || {
            async move {
                let _turn = turn;
                // Another caller may have fetched the commit since the first look.
                if let Some(checkout) = checkouts.find(&key) {
                    return Ok(checkout);
                }
                if let Some(error) = checkouts.failures.get(&key) {
                    return Err(error);
                }
                let fetched = checkouts.fetch(&url, &commit, &key).await;
                if let Err(error) = &fetched {
                    tracing::warn!(url = %url, commit = commit.as_str(), error = %error, "a package set cannot be fetched");
                    checkouts.failures.insert(key, error.clone());
                }
                fetched
            }
        });
        Ok(fetch.await)
    }

    /// The checkout of this key, if it exists.
    fn find(&self, key: &CacheKey) -> Option<Checkout> {
        open(&self.parent.join(key.to_string()))
    }

    async fn fetch(&self, url: &SourceUrl, commit: &Commit, key: &CacheKey) -> FetchResult {
        let started = std::time::Instant::now();
        let failed = |error: io::Error| RepositoryError::Disk(error.to_string());
        let work = tempfile::TempDir::new_in(self.staging.path()).map_err(failed)?;
        let made = work.path().join("made");
        let date = match self.fetch_archive(url, commit, &made).await? {
            Some(date) => date,
            None => self.fetch_by_git(url, commit, work.path(), &made).await?,
        };
        let place = self.parent.join(key.to_string());
        let (parent, staging) = (self.parent.clone(), self.staging.path().to_owned());
        let checkout = tokio::task::spawn_blocking(move || {
            fs::write(made.join("date"), date.to_string())?;
            let lock = File::create(made.join("lock"))?;
            // After a power failure the folder is complete or absent.
            rustix::fs::syncfs(&lock)?;
            match fs::rename(&made, &place) {
                // Another process has created it meanwhile.
                Err(_) if place.join("lock").exists() => {}
                result => result?,
            }
            drop(work);
            let checkout = open(&place).ok_or_else(|| io::Error::other("it is gone again"))?;
            // If removing fails now, it may work next time.
            let _ = remove_oldest(&parent, &staging, KEPT);
            Ok::<_, io::Error>(checkout)
        });
        let checkout = checkout.await.map_err(io::Error::other).flatten().map_err(failed)?;
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(url = %url, commit = commit.as_str(), duration_ms, "package set fetched");
        Ok(checkout)
    }
}

impl Checkouts {
    /// Puts the files into `made`, from the archive of the repository's host. Returns the commit time; None if the host has
    /// no archives, or none of this commit for anybody.
    async fn fetch_archive(
        &self,
        url: &SourceUrl,
        commit: &Commit,
        made: &Path,
    ) -> Result<Option<i64>, RepositoryError> {
        if url.has_credentials() {
            return Ok(None);
        }
        let git = Git::new(url, self.limit);
        // The operator's settings may lead elsewhere.
        let address = git.run(["ls-remote", "--get-url", "--", git.remote()]).await.unwrap_or_default();
        let Some(archive) = self.hosts.url(address.trim(), commit) else { return Ok(None) };
        let fetch = archives::fetch(&archive, commit, made.to_owned());
        match tokio::time::timeout(self.limit, fetch).await {
            Ok(Ok(date)) => Ok(Some(date)),
            Ok(Err(ArchiveError::TooLarge)) => Err(RepositoryError::TooLarge(MAX_BYTES)),
            Ok(Err(error)) => {
                let error = crate::error_chain::chain(&error);
                tracing::info!(archive, error, "the host has no archive of this commit; asking git");
                let removed = match made.exists() {
                    true => fs::remove_dir_all(made),
                    false => Ok(()),
                };
                removed.map(|()| None).map_err(|error| RepositoryError::Disk(error.to_string()))
            }
            Err(_) => Err(RepositoryError::Slow(self.limit)),
        }
    }

    /// Puts the files into `made` by git, which works in `work`. Returns the commit time.
    async fn fetch_by_git(
        &self,
        url: &SourceUrl,
        commit: &Commit,
        work: &Path,
        made: &Path,
    ) -> Result<i64, RepositoryError> {
        let archive = work.join("source.tar");
        let fetch = Fetch { git: Git::new(url, self.limit), repository: work.join("git"), commit };
        let date = fetch.archive(&archive).await?;
        let source = made.join("source");
        let unpacked = tokio::task::spawn_blocking(move || {
            fs::create_dir_all(&source)?;
            unpack(io::BufReader::new(File::open(archive)?), &source)
        });
        match unpacked.await.map_err(io::Error::other).flatten() {
            Ok(_) => Ok(date),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(RepositoryError::TooLarge(MAX_BYTES))
            }
            Err(error) => Err(RepositoryError::Disk(error.to_string())),
        }
    }
}

/// One commit that is being fetched.
struct Fetch<'a> {
    git: Git<'a>,
    /// A repository for this fetch only.
    repository: PathBuf,
    commit: &'a Commit,
}

impl Fetch<'_> {
    /// Writes the commit's files to an archive. Returns the commit time in seconds since 1970.
    async fn archive(&self, archive: &Path) -> Result<i64, RepositoryError> {
        let unreachable = |error: GitError| match error {
            GitError::Timeout(limit) => RepositoryError::Slow(limit),
            error => RepositoryError::Unreachable(error.to_string()),
        };
        let repository = self.repository.as_os_str();
        let init = ["init", "--quiet", "--bare", "--template=", "--"].map(OsStr::new);
        self.git.run(init.into_iter().chain([repository])).await.map_err(unreachable)?;
        let single = ["--depth=1", "--", self.git.remote(), self.commit.as_str()];
        let says = |text: &str, words: [&str; 2]| words.iter().any(|words| text.contains(words));
        match self.fetch(&single).await {
            Ok(()) => {}
            Err(Interrupted::By(size)) => return Err(RepositoryError::TooLarge(size)),
            Err(Interrupted::Git(GitError::Failed(said))) if says(&said, NO_SUCH_COMMIT) => {
                return Err(RepositoryError::NoSuchCommit);
            }
            Err(Interrupted::Git(GitError::Failed(said))) if says(&said, NO_SINGLE_COMMITS) => {
                tracing::info!(
                    said,
                    "the host does not serve single commits; fetching all branches and tags"
                );
                let all = ["--", self.git.remote(), "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
                match self.fetch(&all).await {
                    Ok(()) => {}
                    Err(Interrupted::By(size)) => return Err(RepositoryError::TooLarge(size)),
                    Err(Interrupted::Git(error)) => return Err(unreachable(error)),
                }
            }
            Err(Interrupted::Git(error)) => return Err(unreachable(error)),
        }
        let show = ["log", "--max-count=1", "--format=%H %ct", self.commit.as_str(), "--"];
        // Git resolves the id of a tag object to its commit, but such an id is not a commit's.
        let shown = self.here(&show).await.map_err(|_| RepositoryError::NoSuchCommit)?;
        let date = shown.trim().strip_prefix(self.commit.as_str()).and_then(|date| date.trim().parse().ok());
        let date = date.ok_or(RepositoryError::NoSuchCommit)?;
        let output = format!("--output={}", archive.display());
        self.here(&["archive", "--format=tar", &output, self.commit.as_str()]).await.map_err(unreachable)?;
        Ok(date)
    }

    /// Runs a command in the repository.
    async fn here(&self, arguments: &[&str]) -> Result<String, GitError> {
        let dir = format!("--git-dir={}", self.repository.display());
        self.git.run(std::iter::once(dir.as_str()).chain(arguments.iter().copied())).await
    }

    /// Fetches. Gives up if the fetch is too large.
    async fn fetch(&self, arguments: &[&str]) -> Result<(), Interrupted<u64>> {
        let dir = format!("--git-dir={}", self.repository.display());
        let command =
            [&dir, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"];
        let packs = self.repository.join("objects/pack");
        let too_much = async {
            loop {
                tokio::time::sleep(LOOK).await;
                let size = size_of_files(&packs);
                if size > MAX_BYTES {
                    return MAX_BYTES;
                }
            }
        };
        self.git.run_unless(command.into_iter().chain(arguments.iter().copied()), too_much).await.map(drop)
    }
}

/// Total size of the files in a directory, in bytes. Files may appear and vanish meanwhile.
fn size_of_files(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

/// Opens the checkout in a folder: locks it, and marks it as used.
fn open(dir: &Path) -> Option<Checkout> {
    let path = dir.join("lock");
    let lock = File::open(&path).ok()?;
    lock.lock_shared().ok()?;
    // It may have been removed before it was locked, and another one created in its place.
    let is_same =
        path.metadata().is_ok_and(|meta| Some(meta.ino()) == lock.metadata().ok().map(|meta| meta.ino()));
    if !is_same {
        return None;
    }
    let date = fs::read_to_string(dir.join("date")).ok()?.parse().ok();
    // This fails on a read-only file system, where nothing is removed either.
    let _ = File::open(dir).and_then(|dir| dir.set_modified(SystemTime::now()));
    Some(Checkout { dir: dir.to_owned(), date, _lock: Arc::new(lock) })
}

/// Removes the least recently used checkouts, except those that are being read.
fn remove_oldest(parent: &Path, staging: &Path, kept: usize) -> io::Result<()> {
    let mut all: Vec<_> = fs::read_dir(parent)?
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    all.sort_unstable();
    let surplus = all.len().saturating_sub(kept);
    for (_, dir) in all.into_iter().take(surplus) {
        let Ok(lock) = File::open(dir.join("lock")) else { continue };
        if lock.try_lock().is_ok() {
            // Renaming makes it unavailable at once; deleting the files takes a while.
            let grave = tempfile::TempDir::new_in(staging)?;
            fs::rename(&dir, grave.path().join("removed"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
