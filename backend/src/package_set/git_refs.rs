//! Which commit a branch or tag of a repository is at, by `git ls-remote`.

use crate::{
    flights::Flights,
    queue::{Queue, QueueError},
    turns::{Client, Turns},
};
use firn_shared::{cache_key::CacheKey, package_source::Commit};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::process::Command;

/// How long the commit of a branch or tag is believed.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long it is believed that there is no such ref: shorter, since people push a branch and then pull it.
const NOT_FOUND_INTERVAL: Duration = Duration::from_secs(10);
/// How long it is believed that a repository cannot be asked.
const UNREACHABLE_INTERVAL: Duration = Duration::from_secs(3);
/// How many refs are remembered: callers choose them.
const MAX_REFS: usize = 1000;
/// How many refs are looked up at once, and how many may wait for it.
const AT_ONCE: usize = 4;
const MAX_WAITING: usize = 100;

/// How long a repository may take to answer. Less than a request waits for its build.
const LIMIT: Duration = Duration::from_secs(15);

/// Why a ref has no commit.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GitRefError {
    /// The repository has no such branch or tag.
    #[error("the package repository has no branch or tag {0:?}")]
    NotFound(String),
    /// The repository cannot be asked; the text says why, for the log.
    #[error("the package repository cannot be reached: {0}")]
    Unreachable(String),
}

type Found = Result<Commit, GitRefError>;

/// The refs of one repository, as they were last seen. Many who ask for one at once share an answer.
#[derive(Debug)]
pub(super) struct Refs {
    known: Mutex<HashMap<CacheKey, (Instant, Found)>>,
    lookups: Flights<Found>,
    queue: Queue,
    turns: Arc<Turns>,
}

impl Refs {
    pub(super) fn new() -> Arc<Self> {
        let (known, lookups) = Default::default();
        Arc::new(Self { known, lookups, queue: Queue::new(MAX_WAITING), turns: Turns::new(AT_ONCE) })
    }

    /// The commit that a branch or tag is at; without a name, the default branch.
    ///
    /// # Errors
    /// When too many wait for the repository already; what it says is inside.
    pub(super) async fn commit(
        self: &Arc<Self>,
        url: &str,
        name: Option<&str>,
        client: Client,
    ) -> Result<Found, QueueError> {
        let key = CacheKey::builder("ref-1").field(url).list(name.iter()).build();
        if let Some(found) = self.remembered(&key) {
            return Ok(found);
        }
        let lookup = self.lookups.join_or(key, || {
            let place = self.queue.enter(client)?;
            let (refs, url, name) = (Arc::clone(self), url.to_owned(), name.map(str::to_owned));
            Ok(async move {
                let _place = place;
                // Whoever came between the look above and this one has it already.
                if let Some(found) = refs.remembered(&key) {
                    return found;
                }
                let _turn = refs.turns.take(client).await;
                let found = ls_remote(&url, name.as_deref()).await;
                refs.remember(key, &found);
                found
            })
        })?;
        Ok(lookup.await)
    }

    fn remembered(&self, key: &CacheKey) -> Option<Found> {
        let known = self.known.lock().expect("nothing panics while holding the lock");
        known.get(key).filter(|(until, _)| Instant::now() < *until).map(|(_, found)| found.clone())
    }

    fn remember(&self, key: CacheKey, found: &Found) {
        let now = Instant::now();
        let until = now
            + match found {
                Ok(_) => INTERVAL,
                Err(GitRefError::NotFound(_)) => NOT_FOUND_INTERVAL,
                Err(GitRefError::Unreachable(_)) => UNREACHABLE_INTERVAL,
            };
        let mut known = self.known.lock().expect("nothing panics while holding the lock");
        if known.len() >= MAX_REFS {
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() < MAX_REFS {
            known.insert(key, (until, found.clone()));
        }
    }
}

/// Ends git and what it started, unless it has ended by itself.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Fails when the group is gone, which is what was wanted.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Asks the repository. A tag object is followed to its commit.
async fn ls_remote(url: &str, name: Option<&str>) -> Found {
    let patterns = match name {
        None => vec!["HEAD".to_owned()],
        Some(name) => {
            vec![format!("refs/heads/{name}"), format!("refs/tags/{name}^{{}}"), format!("refs/tags/{name}")]
        }
    };
    tracing::debug!(name, "git ls-remote");
    let child = Command::new("git")
        .args(["ls-remote", "--", url])
        .args(&patterns)
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| GitRefError::Unreachable(format!("cannot run git: {error}")))?;
    let mut group = Group(child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())));
    let output = tokio::time::timeout(LIMIT, child.wait_with_output())
        .await
        .map_err(|_| GitRefError::Unreachable(format!("no answer within {} s", LIMIT.as_secs())))?
        .map_err(|error| GitRefError::Unreachable(format!("cannot run git: {error}")))?;
    group.0 = None;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(GitRefError::Unreachable(stderr.trim().to_owned()));
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let listed: Vec<(&str, &str)> = stdout.lines().filter_map(|line| line.split_once('\t')).collect();
    // A branch before a tag of the same name, a tag's commit before the tag object.
    let found = patterns.iter().find_map(|pattern| listed.iter().find(|(_, listed)| listed == pattern));
    let (commit, _) = found.ok_or_else(|| GitRefError::NotFound(name.unwrap_or("HEAD").to_owned()))?;
    commit.parse().map_err(|_| GitRefError::Unreachable(format!("it answered {commit:?}")))
}
