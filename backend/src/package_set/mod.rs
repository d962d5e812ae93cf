//! The package set: which revision a tag names now, and the files of that revision.
//!
//! Anything that can change is looked up at most once per short interval. Everything after that is keyed by the
//! revision that was found.

mod archive_hosts;
mod archives;
mod channels;
mod checkouts;
mod git;
mod git_refs;
mod path;
mod refs;
mod trust;
mod unpack;

use crate::waiting::{Abandoned, Audience, Client, QueueError};
pub use archive_hosts::{ArchiveHosts, KNOWN as KNOWN_ARCHIVE_HOSTS};
use channels::Channels;
use checkouts::{Checkout, Checkouts};
use firn_shared::{
    cache_key::CacheKey,
    naming::{
        flake_dir::FlakeDir,
        package_source::{Commit, PackageSource, Revision, Revisions, SelectError, Selector},
        source_url::SourceUrl,
    },
    oci::reference::Tag,
};
use path::{Certainty, WatchedPath};
use refs::Refs;
use serde::Serialize;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
pub use trust::Trust;

/// How many earlier revisions of `latest` are remembered.
const MAX_CONFIGURED: usize = 64;

/// Why a repository did not provide what was requested.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RepositoryError {
    /// It has no such branch or tag.
    #[error("the package repository has no branch or tag {0:?}")]
    NoSuchRef(String),
    /// It has no such commit.
    #[error("the package repository has no such commit")]
    NoSuchCommit,
    /// It cannot be reached. The text has the reason for the log, without credentials.
    #[error("the package repository cannot be reached: {0}")]
    Unreachable(String),
    /// Fetching the commit took too long.
    #[error("fetching the package set took longer than {} s", .0.as_secs())]
    Slow(Duration),
    /// The commit is larger than this many bytes.
    #[error("the package set is larger than {} MiB", .0 >> 20)]
    TooLarge(u64),
    /// The fetched files cannot be stored.
    #[error("the package set cannot be stored: {0}")]
    Disk(String),
}

/// Why a tag has no revision, or a revision has no files.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// The tag cannot name a revision of this source.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The repository did not provide it.
    #[error(transparent)]
    Git(#[from] RepositoryError),
    /// Too many tags are being looked up.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// No client waits any more.
    #[error(transparent)]
    Abandoned(#[from] Abandoned),
    /// The path cannot be read.
    #[error("cannot read the package set")]
    Path(#[from] std::io::Error),
}

impl RevisionError {
    /// The message for clients.
    pub fn explain(&self) -> String {
        match self {
            Self::Git(RepositoryError::Unreachable(_)) => "the package repository cannot be reached".into(),
            Self::Git(RepositoryError::Disk(_)) => {
                "the package set cannot be stored at the moment; the operator finds the reason in the log"
                    .into()
            }
            Self::Path(_) => "the package set cannot be read".into(),
            Self::Queue(QueueError::Closed) | Self::Select(_) | Self::Git(_) | Self::Abandoned(_) => {
                self.to_string()
            }
            Self::Queue(_) => "too many branches and tags are being looked up; ask again in a moment".into(),
        }
    }
}

/// A package source, and what is cached of it.
#[derive(Debug)]
pub struct PackageSet {
    source: PackageSource,
    revisions: Revisions,
    refs: Arc<Refs>,
    /// The content of the path, if the source is one.
    path: Option<WatchedPath>,
    /// The files of fetched commits.
    checkouts: Option<Arc<Checkouts>>,
    /// The revisions that `latest` has named, the newest last.
    configured: std::sync::Mutex<VecDeque<Revision>>,
    /// Whether only the operator chooses revisions.
    callers_are_trusted: bool,
}

/// The files of a package set at a revision, in the form that `nix/load-pkgs.nix` takes. The files are kept while this
/// exists.
#[derive(Debug, Clone, Serialize)]
pub struct PackageSetFiles {
    path: PathBuf,
    /// The time of the commit that the files belong to, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flake: Option<FlakeFiles>,
    /// Keeps the files.
    #[serde(skip)]
    _checkout: Option<Checkout>,
    #[serde(skip)]
    trust: Trust,
}

/// What is known of a flake besides its files.
#[derive(Debug, Clone, Serialize)]
struct FlakeFiles {
    /// The directory of `flake.nix` in them.
    dir: FlakeDir,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    rev: Option<Commit>,
    /// The hash of the files, as lock files have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    nar_hash: Option<String>,
}

impl PackageSetFiles {
    /// A directory or file that belongs to no commit.
    pub fn path(path: PathBuf, trust: Trust) -> Self {
        Self { path, date: None, flake: None, _checkout: None, trust }
    }

    /// The path of the files.
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a flake. A flake is evaluated in the Nix store.
    pub fn is_flake(&self) -> bool {
        self.flake.is_some()
    }

    /// Who chose this code. Code that a caller chose is evaluated under restrictions.
    pub fn trust(&self) -> Trust {
        self.trust
    }
}

impl PackageSet {
    /// The package set of this source. Commits are fetched into the data directory; `fetch_limit` is the timeout of a
    /// fetch.
    ///
    /// # Errors
    /// If the data directory cannot be written to.
    pub fn new(
        source: PackageSource,
        revisions: Revisions,
        data: &Path,
        fetch_limit: Duration,
    ) -> std::io::Result<Self> {
        let path = match &source {
            PackageSource::Path { path, .. } => Some(WatchedPath::new(path.clone())),
            _ => None,
        };
        let configured = Default::default();
        let is_fetched = source.repository().is_some();
        let checkouts = is_fetched.then(|| Checkouts::new(data, fetch_limit)).transpose()?.map(Arc::new);
        let refs = refs_of(&source, revisions, channels::OFFICIAL.into());
        let callers_are_trusted = false;
        Ok(Self { source, revisions, refs, path, checkouts, configured, callers_are_trusted })
    }

    /// The same, with this server of channels.
    #[must_use]
    pub fn with_channels(self, server: SourceUrl) -> Self {
        Self { refs: refs_of(&self.source, self.revisions, server), ..self }
    }

    /// The same, which fetches commits as archives from these hosts.
    #[must_use]
    pub fn with_archives(self, hosts: ArchiveHosts) -> Self {
        let checkouts = self.checkouts.and_then(Arc::into_inner);
        Self { checkouts: checkouts.map(|checkouts| Arc::new(checkouts.with_archives(hosts))), ..self }
    }

    /// The same, if only the operator chooses revisions, at the command line.
    #[must_use]
    pub fn trusting_callers(self) -> Self {
        Self { callers_are_trusted: true, ..self }
    }

    /// The revision that a tag names now. Clients take turns at look-ups.
    ///
    /// # Errors
    /// If the tag cannot name a revision, or the look-up fails.
    pub async fn revision(&self, tag: &Tag, client: Client) -> Result<Revision, RevisionError> {
        let revision = self.named(tag, client).await?;
        if tag.is_latest() {
            let mut configured = self.configured.lock().expect("nothing panics while holding the lock");
            if configured.back() != Some(&revision) {
                configured.retain(|known| *known != revision);
                configured.push_back(revision.clone());
                let surplus = configured.len().saturating_sub(MAX_CONFIGURED);
                configured.drain(..surplus);
            }
        }
        Ok(revision)
    }

    /// The directory of the flake, if the source is one.
    pub fn flake(&self) -> Option<&FlakeDir> {
        self.source.flake()
    }

    /// Who chose a revision. It counts as the operator's if `latest` names it, or named it recently: the operator
    /// configured `latest`.
    pub fn trust(&self, revision: &Revision) -> Trust {
        let callers_choose = self.revisions != Revisions::Fixed
            && !matches!(self.source, PackageSource::Path { .. })
            && !self.callers_are_trusted;
        let configured = self.configured.lock().expect("nothing panics while holding the lock");
        if callers_choose && !configured.contains(revision) { Trust::Caller } else { Trust::Operator }
    }

    async fn named(&self, tag: &Tag, client: Client) -> Result<Revision, RevisionError> {
        let selector = self.source.select(tag, self.revisions)?;
        if let Some(revision) = selector.pinned() {
            return Ok(revision);
        }
        match selector {
            Selector::Path => self.content(Certainty::Recent).await,
            Selector::Git { url, version, flake } => {
                let name = version.map(|version| version.to_string());
                let repository = self.source.repository().unwrap_or_else(|| url.as_str().into());
                let rev = self.refs.commit(&repository, name.as_deref(), client).await??;
                Ok(Revision::of_commit(url, rev, flake))
            }
        }
    }

    /// Whether this revision still has the content that would be evaluated. A path may have changed since.
    ///
    /// # Errors
    /// When the path cannot be read.
    pub async fn is_current(&self, revision: &Revision) -> Result<bool, RevisionError> {
        match revision {
            Revision::Path { .. } => Ok(self.content(Certainty::Exact).await? == *revision),
            Revision::Git { .. } | Revision::Flake { .. } => Ok(true),
        }
    }

    /// The files of a revision, to be evaluated as code that `trust` chose. Files in a repository are fetched if they
    /// are not there.
    ///
    /// # Errors
    /// If the files cannot be fetched.
    pub async fn files(
        &self,
        revision: &Revision,
        trust: Trust,
        audience: &Arc<Audience>,
    ) -> Result<PackageSetFiles, RevisionError> {
        let flake = self.source.flake().cloned();
        match (&self.source, &self.checkouts, self.source.repository(), revision.commit()) {
            (_, Some(checkouts), Some(url), Some((_, rev))) => {
                let checkout = checkouts.get(&url, rev, audience).await??;
                let (path, date) = (checkout.path(), checkout.date());
                let flake = match flake {
                    Some(dir) => {
                        let nar_hash = Some(checkout.nar_hash().await?);
                        Some(FlakeFiles { dir, rev: Some(rev.clone()), nar_hash })
                    }
                    None => None,
                };
                Ok(PackageSetFiles { path, date, flake, _checkout: Some(checkout), trust })
            }
            (PackageSource::Path { path, .. }, ..) => {
                let flake = flake.map(|dir| FlakeFiles { dir, rev: None, nar_hash: None });
                Ok(PackageSetFiles { flake, ..PackageSetFiles::path(path.clone(), trust) })
            }
            _ => unreachable!("revisions of repositories come from repositories"),
        }
    }

    async fn content(&self, certainty: Certainty) -> Result<Revision, RevisionError> {
        let path = self.path.as_ref().expect("only a path has a content");
        let content = path.content(certainty).await?.hex();
        Ok(Revision::Path {
            content: match self.source.flake() {
                // What it means depends on where its `flake.nix` is.
                Some(dir) => {
                    CacheKey::builder("flake-1").field(&content).field(dir.as_str()).build().to_string()
                }
                None => content,
            },
        })
    }
}

/// The refs of a source, of which `latest` may be one.
fn refs_of(source: &PackageSource, revisions: Revisions, channels: SourceUrl) -> Arc<Refs> {
    let latest = source.select(&Tag::default(), revisions).ok().filter(|latest| latest.pinned().is_none());
    let channels = matches!(source, PackageSource::Channel(_)).then(|| Channels::new(channels));
    match (&latest, source.repository()) {
        (Some(Selector::Git { version, .. }), Some(url)) => {
            let name = version.as_ref().map(ToString::to_string);
            Refs::new(Some((&url, name.as_deref())), channels)
        }
        _ => Refs::new(None, channels),
    }
}
