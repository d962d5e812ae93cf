//! The package set: which revision a tag names right now.
//!
//! Whatever can move is looked up at most once per short interval, and everything after that is keyed by the
//! revision that was found.

mod git_refs;
mod path_content;

pub use git_refs::GitRefError;

use crate::{queue::QueueError, turns::Client};
use firn_shared::{
    package_source::{PackageSource, Revision, Revisions, SelectError, Selector},
    reference::Tag,
};
use git_refs::Refs;
use path_content::PathContents;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long the content of a path is believed. Short, because people edit their package set and pull again.
const PATH_INTERVAL: Duration = Duration::from_secs(2);

/// Why a tag has no revision.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// The tag can name nothing here.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The repository has no such ref, or cannot be asked.
    #[error(transparent)]
    Git(#[from] GitRefError),
    /// Too many tags are being looked up.
    #[error(transparent)]
    Queue(#[from] QueueError),
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
    path: Mutex<Option<(Instant, Revision)>>,
    contents: Arc<std::sync::Mutex<PathContents>>,
}

impl PackageSet {
    /// The package set from this source.
    pub fn new(source: PackageSource, revisions: Revisions) -> Self {
        let (path, contents) = Default::default();
        Self { source, revisions, refs: Refs::new(), path, contents }
    }

    /// The revision that a tag names now. Clients take turns at what has to be looked up.
    ///
    /// # Errors
    /// When the tag names nothing, or what it names cannot be looked up.
    pub async fn revision(&self, tag: &Tag, client: Client) -> Result<Revision, RevisionError> {
        let selector = self.source.select(tag, self.revisions)?;
        if let Some(revision) = selector.pinned() {
            return Ok(revision);
        }
        match selector {
            Selector::Path(path) => {
                // Held while the path is read: everybody else wants the same answer.
                let mut last = self.path.lock().await;
                if let Some((when, revision)) = &*last
                    && when.elapsed() < PATH_INTERVAL
                {
                    return Ok(revision.clone());
                }
                let revision = self.content(path).await?;
                *last = Some((Instant::now(), revision.clone()));
                Ok(revision)
            }
            Selector::Git { url, version } => {
                let name = version.map(|version| version.to_string());
                let rev = self.refs.commit(&url, name.as_deref(), client).await??;
                Ok(Revision::Git { url, rev })
            }
        }
    }

    /// Whether what a revision names is still what would be evaluated: a path may have changed meanwhile.
    ///
    /// # Errors
    /// When the path cannot be read.
    pub async fn is_current(&self, revision: &Revision) -> Result<bool, RevisionError> {
        match (&self.source, revision) {
            (PackageSource::Path(path), Revision::Path { .. }) => {
                Ok(self.content(path.clone()).await? == *revision)
            }
            _ => Ok(true),
        }
    }

    /// The source at a revision, in the form that `nix/load-pkgs.nix` takes.
    pub fn nix_source(&self, revision: &Revision) -> serde_json::Value {
        let rev = revision.id();
        match &self.source {
            PackageSource::Path(path) => serde_json::json!({ "type": "path", "path": path }),
            PackageSource::Channel(_) => serde_json::json!({ "type": "channel", "channel": rev }),
            PackageSource::Git { url, .. } => serde_json::json!({ "type": "git", "url": url, "rev": rev }),
        }
    }

    async fn content(&self, path: PathBuf) -> Result<Revision, RevisionError> {
        let contents = Arc::clone(&self.contents);
        let hash = move || contents.lock().expect("hashing does not panic").digest(&path);
        let digest = tokio::task::spawn_blocking(hash).await.map_err(std::io::Error::other)??;
        Ok(Revision::Path { content: digest.hex() })
    }
}
