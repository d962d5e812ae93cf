//! The package set: which revision a tag names right now, and its files.
//!
//! Whatever can move is looked up at most once per short interval, and everything after that is keyed by the
//! revision that was found.

mod channels;
mod checkouts;
mod git;
mod git_refs;
mod path;
mod refs;
mod trust;

use crate::{
    audience::{Abandoned, Audience, Client},
    queue::QueueError,
};
use channels::Channels;
use checkouts::{Checkout, Checkouts};
use firn_shared::{
    naming::{
        package_source::{PackageSource, Revision, Revisions, SelectError, Selector},
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

/// How many revisions are remembered that `latest` has named.
const MAX_CONFIGURED: usize = 64;

/// What is wrong with a repository, or with what was wanted of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RepositoryError {
    /// It has no such branch or tag.
    #[error("the package repository has no branch or tag {0:?}")]
    NoSuchRef(String),
    /// It has no such commit.
    #[error("the package repository has no such commit")]
    NoSuchCommit,
    /// It cannot be asked. The text says why, for the log; it holds no credentials.
    #[error("the package repository cannot be reached: {0}")]
    Unreachable(String),
    /// It did not give the commit in time.
    #[error("fetching the package set took longer than {} s", .0.as_secs())]
    Slow(Duration),
    /// A commit is larger than this, in bytes.
    #[error("the package set is larger than {} MiB", .0 >> 20)]
    TooLarge(u64),
    /// What was fetched cannot be stored.
    #[error("the package set cannot be stored: {0}")]
    Disk(String),
}

/// Why a tag has no revision, or a revision no files.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// The tag can name nothing here.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The repository does not give what was wanted.
    #[error(transparent)]
    Git(#[from] RepositoryError),
    /// Too many tags are being looked up.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Nobody waits for it any more.
    #[error(transparent)]
    Abandoned(#[from] Abandoned),
    /// The path cannot be read.
    #[error("cannot read the package set")]
    Path(#[from] std::io::Error),
}

/// A package source with what was last seen of it.
#[derive(Debug)]
pub struct PackageSet {
    source: PackageSource,
    revisions: Revisions,
    refs: Arc<Refs>,
    /// What the path holds, if it is one.
    path: Option<WatchedPath>,
    /// What repositories are fetched into.
    checkouts: Option<Arc<Checkouts>>,
    /// The revisions that `latest` has named, latest last.
    configured: std::sync::Mutex<VecDeque<Revision>>,
    /// Whether those who choose a revision are the operator.
    callers_are_trusted: bool,
}

/// The files of a package set at a revision, in the form that `nix/load-pkgs.nix` takes. They stay while this exists.
#[derive(Debug, Clone, Serialize)]
pub struct Source {
    path: PathBuf,
    /// The commit whose files those are, if it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    /// When that was committed, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<i64>,
    /// Keeps the files.
    #[serde(skip)]
    _checkout: Option<Checkout>,
    #[serde(skip)]
    trust: Trust,
}

impl Source {
    /// A directory or file that is no commit's.
    pub fn path(path: PathBuf, trust: Trust) -> Self {
        Self { path, revision: None, date: None, _checkout: None, trust }
    }

    /// Where the files are.
    pub fn place(&self) -> &Path {
        &self.path
    }

    /// Whose code it is: what a caller chose is evaluated under restrictions.
    pub fn trust(&self) -> Trust {
        self.trust
    }
}

impl PackageSet {
    /// The package set from this source. What is fetched goes into the data directory, and may take so long.
    ///
    /// # Errors
    /// When the data directory cannot be written.
    pub fn new(
        source: PackageSource,
        revisions: Revisions,
        data: &Path,
        fetch_limit: Duration,
    ) -> std::io::Result<Self> {
        let path = match &source {
            PackageSource::Path(path) => Some(WatchedPath::new(path.clone())),
            _ => None,
        };
        let configured = Default::default();
        let is_fetched = source.repository().is_some();
        let checkouts = is_fetched.then(|| Checkouts::new(data, fetch_limit)).transpose()?;
        let refs = refs_of(&source, revisions, channels::OFFICIAL.into());
        let callers_are_trusted = false;
        Ok(Self { source, revisions, refs, path, checkouts, configured, callers_are_trusted })
    }

    /// The same where this server says what commits channels are at.
    #[must_use]
    pub fn with_channels(self, server: SourceUrl) -> Self {
        Self { refs: refs_of(&self.source, self.revisions, server), ..self }
    }

    /// The same where the operator alone chooses revisions, at the command line.
    #[must_use]
    pub fn trusting_callers(self) -> Self {
        Self { callers_are_trusted: true, ..self }
    }

    /// The revision that a tag names now. Clients take turns at what has to be looked up.
    ///
    /// # Errors
    /// When the tag names nothing, or what it names cannot be looked up.
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

    /// Whose code a revision is: the operator's if it is, or was a while ago, the one that the operator configured,
    /// which `latest` names.
    pub fn trust(&self, revision: &Revision) -> Trust {
        let callers_choose = self.revisions != Revisions::Fixed
            && !matches!(self.source, PackageSource::Path(_))
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
            Selector::Path(_) => self.content(Certainty::Recent).await,
            Selector::Git { url, version } => {
                let name = version.map(|version| version.to_string());
                let repository = self.source.repository().unwrap_or_else(|| url.as_str().into());
                let rev = self.refs.commit(&repository, name.as_deref(), client).await??;
                Ok(Revision::Git { url, rev })
            }
        }
    }

    /// Whether what a revision names is still what would be evaluated: a path may have changed meanwhile.
    ///
    /// # Errors
    /// When the path cannot be read.
    pub async fn is_current(&self, revision: &Revision) -> Result<bool, RevisionError> {
        match revision {
            Revision::Path { .. } => Ok(self.content(Certainty::Exact).await? == *revision),
            Revision::Git { .. } => Ok(true),
        }
    }

    /// The files of a revision, which are evaluated as code of whom is said here; those of a repository are fetched if
    /// they are not there.
    ///
    /// # Errors
    /// When they cannot be fetched.
    pub async fn files(
        &self,
        revision: &Revision,
        trust: Trust,
        audience: &Arc<Audience>,
    ) -> Result<Source, RevisionError> {
        match (&self.source, &self.checkouts, self.source.repository(), revision) {
            (_, Some(checkouts), Some(url), Revision::Git { rev, .. }) => {
                let checkout = checkouts.get(&url, rev, audience).await??;
                let (path, date) = (checkout.path(), checkout.date());
                let revision = Some(rev.as_str().to_owned());
                Ok(Source { path, revision, date, _checkout: Some(checkout), trust })
            }
            (PackageSource::Path(path), ..) => Ok(Source::path(path.clone(), trust)),
            _ => unreachable!("revisions of repositories come from repositories"),
        }
    }

    async fn content(&self, certainty: Certainty) -> Result<Revision, RevisionError> {
        let path = self.path.as_ref().expect("only a path has a content");
        Ok(path.revision(certainty).await?)
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
