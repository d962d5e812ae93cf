//! Which commit a branch or tag of a repository is at, by `git ls-remote`.

use super::{RepositoryError, git::Git};
use crate::{
    flights::Flights,
    queue::{Queue, QueueError},
    turns::{Client, Turns},
};
use firn_shared::{cache_key::CacheKey, package_source::Commit, source_url::SourceUrl};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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

type Found = Result<Commit, RepositoryError>;

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
        url: &SourceUrl,
        name: Option<&str>,
        client: Client,
    ) -> Result<Found, QueueError> {
        let key = CacheKey::builder("ref-1").field(url.public().as_str()).list(name.iter()).build();
        if let Some(found) = self.remembered(&key) {
            return Ok(found);
        }
        let lookup = self.lookups.join_or(key, || {
            let place = self.queue.enter(client)?;
            let (refs, url, name) = (Arc::clone(self), url.clone(), name.map(str::to_owned));
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
                Err(RepositoryError::NoSuchRef(_)) => NOT_FOUND_INTERVAL,
                Err(_) => UNREACHABLE_INTERVAL,
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

/// Asks the repository. A tag object is followed to its commit.
async fn ls_remote(url: &SourceUrl, name: Option<&str>) -> Found {
    let patterns = match name {
        None => vec!["HEAD".to_owned()],
        Some(name) => {
            vec![format!("refs/heads/{name}"), format!("refs/tags/{name}^{{}}"), format!("refs/tags/{name}")]
        }
    };
    tracing::debug!(name, "git ls-remote");
    let git = Git::new(url, LIMIT);
    let arguments = ["ls-remote", "--", git.remote()].into_iter().chain(patterns.iter().map(String::as_str));
    let stdout = git.run(arguments).await.map_err(|error| RepositoryError::Unreachable(error.to_string()))?;
    let listed: Vec<(&str, &str)> = stdout.lines().filter_map(|line| line.split_once('\t')).collect();
    // A branch before a tag of the same name, a tag's commit before the tag object.
    let found = patterns.iter().find_map(|pattern| listed.iter().find(|(_, listed)| listed == pattern));
    let (commit, _) = found.ok_or_else(|| RepositoryError::NoSuchRef(name.unwrap_or("HEAD").to_owned()))?;
    commit.parse().map_err(|_| RepositoryError::Unreachable(format!("it answered {commit:?}")))
}
