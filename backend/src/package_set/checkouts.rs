//! The files of a commit, fetched by git into a directory of the data directory, where Nix reads them.
//!
//! **What is fetched** is the one commit that was looked up or asked for, without its history. Only where a host gives
//! no single commits, its branches and tags are fetched whole, and never anything else, such as the pull requests of
//! others. Each fetch uses a repository of its own, which is removed afterwards, so that none grows, none is locked by
//! a killed process, and what one revision fetched is not part of another.
//!
//! **Where it lies.** `sources/<key>/` holds `source`, the files, beside `date`, when it was committed, and `lock`.
//! The folder appears whole, by renaming. It is locked while it is read; the ones that have not been used for
//! longest are removed when there are more than [`KEPT`]. Other processes may use the same data directory.

use super::{
    RepositoryError,
    git::{Git, GitError, Interrupted},
};
use crate::{
    process::OwnFolder,
    waiting::Flights,
    waiting::Turns,
    waiting::{Abandoned, Audience},
};
use firn_shared::{
    cache_key::CacheKey,
    naming::{package_source::Commit, source_url::SourceUrl},
};
use moka::sync::Cache;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How many checkouts are kept; one of nixpkgs takes 300 MB.
const KEPT: usize = 8;
/// The most that one commit's files may take, in bytes, and what is fetched for them.
const MAX_BYTES: u64 = 4 << 30;
/// The most files and directories that one commit may have.
const MAX_ENTRIES: usize = 2_000_000;
/// How often it is looked how much has been fetched.
const LOOK: Duration = Duration::from_millis(500);
/// How many commits are fetched at once. Builds wait for it, which are bounded in number.
const AT_ONCE: usize = 2;
/// For how long it is believed that a commit cannot be had.
const FAILURE_INTERVAL: Duration = Duration::from_secs(10);
/// Of how many commits that is remembered: callers choose them.
const MAX_FAILURES: u64 = 1000;

/// What git says where a host gives no single commits: it has an old protocol, or is a plain web server.
const NO_SINGLE_COMMITS: [&str; 2] = ["unadvertised object", "does not support shallow capabilities"];
/// What git says of a commit that the host does not have.
const NO_SUCH_COMMIT: [&str; 2] = ["not our ref", "bad object"];

type Outcome = Result<Checkout, RepositoryError>;

/// The checkouts of a data directory.
#[derive(Debug)]
pub(super) struct Checkouts {
    parent: PathBuf,
    /// Where fetches happen; what a killed process has left is gone.
    staging: OwnFolder,
    limit: Duration,
    fetches: Flights<Outcome>,
    failures: Cache<CacheKey, RepositoryError>,
    turns: Arc<Turns>,
}

/// The files of a commit. They stay while this exists.
#[derive(Debug, Clone)]
pub(super) struct Checkout {
    dir: PathBuf,
    date: Option<i64>,
    _lock: Arc<File>,
}

impl Checkout {
    /// Where the files are.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.join("source")
    }

    /// When it was committed, in seconds since 1970.
    pub(super) fn date(&self) -> Option<i64> {
        self.date
    }
}

impl Checkouts {
    /// Those in a data directory; a fetch may take so long.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub(super) fn new(data: &Path, limit: Duration) -> io::Result<Arc<Self>> {
        let parent = data.join("sources");
        fs::create_dir_all(&parent)?;
        Ok(Arc::new(Self {
            // Nix's expressions see the path: it has no links in it.
            parent: parent.canonicalize()?,
            staging: OwnFolder::new(&data.join("fetching"))?,
            limit,
            fetches: Flights::default(),
            failures: Cache::builder().max_capacity(MAX_FAILURES).time_to_live(FAILURE_INTERVAL).build(),
            turns: Turns::new(AT_ONCE),
        }))
    }

    /// The files of a commit, fetched if they are not there. Those who want the same wait for one fetch.
    ///
    /// # Errors
    /// When nobody waits for it any more; why it cannot be had is inside.
    pub(super) async fn get(
        self: &Arc<Self>,
        url: &SourceUrl,
        commit: &Commit,
        audience: &Arc<Audience>,
    ) -> Result<Outcome, Abandoned> {
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
        // Taken here, for the audience as it is, and not for those who share the fetch. If there is one by then, it goes.
        let turn = self.turns.take(audience).await?;
        let (checkouts, url, commit) = (Arc::clone(self), url.clone(), commit.clone());
        let fetch = self.fetches.join(key, || {
            async move {
                let _turn = turn;
                // Whoever came between the look above and this one has it already.
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

    /// The checkout of this key, if it is there.
    fn find(&self, key: &CacheKey) -> Option<Checkout> {
        open(&self.parent.join(key.to_string()))
    }

    async fn fetch(&self, url: &SourceUrl, commit: &Commit, key: &CacheKey) -> Outcome {
        let started = std::time::Instant::now();
        let failed = |error: io::Error| RepositoryError::Disk(error.to_string());
        let work = tempfile::TempDir::new_in(self.staging.path()).map_err(failed)?;
        let archive = work.path().join("source.tar");
        let fetch = Fetch { git: Git::new(url, self.limit), repository: work.path().join("git"), commit };
        let date = fetch.archive(&archive).await?;
        let place = self.parent.join(key.to_string());
        let (parent, staging) = (self.parent.clone(), self.staging.path().to_owned());
        let unpacked = tokio::task::spawn_blocking(move || {
            let made = work.path().join("made");
            fs::create_dir_all(made.join("source"))?;
            unpack(&archive, &made.join("source"))?;
            fs::write(made.join("date"), date.to_string())?;
            let lock = File::create(made.join("lock"))?;
            // After a power cut it is there whole or not at all.
            rustix::fs::syncfs(&lock)?;
            match fs::rename(&made, &place) {
                // Another process was first.
                Err(_) if place.join("lock").exists() => {}
                result => result?,
            }
            let checkout = open(&place).ok_or_else(|| io::Error::other("it is gone again"))?;
            // What cannot be removed now may be another time.
            let _ = remove_oldest(&parent, &staging, KEPT);
            Ok::<_, io::Error>(checkout)
        });
        let checkout =
            unpacked.await.map_err(io::Error::other).flatten().map_err(|error| match error.kind() {
                io::ErrorKind::FileTooLarge => RepositoryError::TooLarge(MAX_BYTES),
                _ => failed(error),
            })?;
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(url = %url, commit = commit.as_str(), duration_ms, "package set fetched");
        Ok(checkout)
    }
}

/// One commit on its way.
struct Fetch<'a> {
    git: Git<'a>,
    /// A repository for this fetch alone.
    repository: PathBuf,
    commit: &'a Commit,
}

impl Fetch<'_> {
    /// Writes the commit's files to an archive. When it was committed, in seconds since 1970.
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
                tracing::info!(said, "the host gives no single commits; all branches and tags are fetched");
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
        // The id of a tag names a commit too, but is none.
        let shown = self.here(&show).await.map_err(|_| RepositoryError::NoSuchCommit)?;
        let date = shown.trim().strip_prefix(self.commit.as_str()).and_then(|date| date.trim().parse().ok());
        let date = date.ok_or(RepositoryError::NoSuchCommit)?;
        let output = format!("--output={}", archive.display());
        self.here(&["archive", "--format=tar", &output, self.commit.as_str()]).await.map_err(unreachable)?;
        Ok(date)
    }

    /// A command in the repository.
    async fn here(&self, arguments: &[&str]) -> Result<String, GitError> {
        let dir = format!("--git-dir={}", self.repository.display());
        self.git.run(std::iter::once(dir.as_str()).chain(arguments.iter().copied())).await
    }

    /// Fetches, and gives up when that is too much.
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

/// The bytes of the files in a directory. They come and go.
fn size_of_files(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

/// The checkout in a folder, locked and marked as used.
fn open(dir: &Path) -> Option<Checkout> {
    let path = dir.join("lock");
    let lock = File::open(&path).ok()?;
    lock.lock_shared().ok()?;
    // It may have been removed before it was locked, and another be in its place.
    let is_same =
        path.metadata().is_ok_and(|meta| Some(meta.ino()) == lock.metadata().ok().map(|meta| meta.ino()));
    if !is_same {
        return None;
    }
    let date = fs::read_to_string(dir.join("date")).ok()?.parse().ok();
    // Where the file system is read-only nothing is removed either.
    let _ = File::open(dir).and_then(|dir| dir.set_modified(SystemTime::now()));
    Some(Checkout { dir: dir.to_owned(), date, _lock: Arc::new(lock) })
}

/// Removes the checkouts that have not been used for longest, as long as nobody reads them.
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
            // Gone at once for those who look for it; removing takes a while.
            let grave = tempfile::TempDir::new_in(staging)?;
            fs::rename(&dir, grave.path().join("removed"))?;
        }
    }
    Ok(())
}

/// Unpacks git's archive: directories, files and links, and nothing else.
fn unpack(archive: &Path, into: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(io::BufReader::new(File::open(archive)?));
    let mut bytes = 0;
    for (count, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        bytes += entry.size();
        if bytes > MAX_BYTES || count > MAX_ENTRIES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let kind = entry.header().entry_type();
        entry.set_preserve_mtime(false);
        // Never outside of the directory, whatever the commit says its files are called.
        if (kind.is_file() || kind.is_dir() || kind.is_symlink()) && !entry.unpack_in(into)? {
            return Err(io::Error::other("the commit holds a file that lies outside of it"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
