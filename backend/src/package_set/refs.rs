//! The refs of repositories as they were last seen, so that a repository is asked about each once in a while.
//!
//! Callers make up names of refs. What they ask for waits for others of that kind, and no more: a ref that was there
//! before is looked up beside them, the configured one at once, and while the repository takes long to answer, or does
//! not, what it said last is believed for a while longer.

use super::{
    RepositoryError, RevisionError,
    channels::Channels,
    git_refs::{Found, ls_remote},
};
use crate::{
    audience::{Abandoned, Audience, Client},
    flights::{Flight, Flights},
    queue::Queue,
    turns::Turns,
};
use firn_shared::{
    cache_key::CacheKey,
    naming::{package_source::Commit, source_url::SourceUrl},
};
use moka::sync::Cache;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long the commit of a branch or tag is believed.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long it is believed while the repository cannot tell.
const STALE: Duration = Duration::from_secs(3600);
/// How long a request waits for the repository where it was told the commit before.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it is believed that there is no such ref: shorter, since people push a branch and then pull it.
const NOT_FOUND_INTERVAL: Duration = Duration::from_secs(10);
/// How long it is believed that a repository cannot be asked.
const UNREACHABLE_INTERVAL: Duration = Duration::from_secs(3);
/// How many refs are remembered, and how many that are not there: callers choose them.
const MAX_REFS: u64 = 1000;
/// How many refs are looked up at once, of those that were there before and of others.
const AT_ONCE: usize = 4;
/// How many that were never there may wait for it, and how many of them one client's.
const MAX_WAITING: usize = 100;
const MAX_WAITING_PER_CLIENT: usize = 10;

/// The commit that a ref was at, and when.
type Seen = (Instant, Commit);

/// What a lookup comes to.
type Outcome = Result<Found, Abandoned>;

/// The refs of one source, as they were last seen. Many who ask for one at once share an answer.
#[derive(Debug)]
pub(super) struct Refs {
    interval: Duration,
    patience: Duration,
    /// Who says where branches of nixpkgs are that are channels.
    channels: Option<Channels>,
    /// What `latest` means, and where that was.
    configured: Option<CacheKey>,
    latest: Mutex<Option<Seen>>,
    /// Where others were.
    seen: Cache<CacheKey, Seen>,
    /// What was answered instead, and until when that is believed.
    failed: Cache<CacheKey, (Instant, RepositoryError)>,
    lookups: Flights<Outcome, Arc<Audience>>,
    queue: Queue,
    /// Turns for refs that were there before, and for others.
    again: Arc<Turns>,
    first: Arc<Turns>,
}

fn key(url: &SourceUrl, name: Option<&str>) -> CacheKey {
    CacheKey::builder("ref-1").field(url.public().as_str()).list(name.iter()).build()
}

impl Refs {
    /// Those of a source where `latest` means this ref of this repository, if it means one. Where there are channels, the
    /// repository is that of nixpkgs.
    pub(super) fn new(
        configured: Option<(&SourceUrl, Option<&str>)>,
        channels: Option<Channels>,
    ) -> Arc<Self> {
        let configured = configured.map(|(url, name)| key(url, name));
        Arc::new(Self { channels, ..Self::with(configured, INTERVAL, PATIENCE) })
    }

    fn with(configured: Option<CacheKey>, interval: Duration, patience: Duration) -> Self {
        Self {
            interval,
            patience,
            channels: None,
            configured,
            latest: Mutex::default(),
            seen: Cache::builder().max_capacity(MAX_REFS).time_to_live(STALE).build(),
            failed: Cache::builder().max_capacity(MAX_REFS).time_to_live(NOT_FOUND_INTERVAL).build(),
            lookups: Flights::default(),
            queue: Queue::new(MAX_WAITING, MAX_WAITING_PER_CLIENT),
            again: Turns::new(AT_ONCE),
            first: Turns::new(AT_ONCE),
        }
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
    ) -> Result<Found, RevisionError> {
        let key = key(url, name);
        if let Some(found) = self.remembered(&key) {
            return Ok(found);
        }
        let lookup = self.look_up(key, url, name, client);
        let Some(commit) = self.seen(&key) else { return Ok(lookup.await??) };
        Ok(match tokio::time::timeout(self.patience, lookup).await {
            Ok(Ok(Ok(Err(RepositoryError::Unreachable(_))))) | Err(_) => Ok(commit),
            Ok(found) => found??,
        })
    }

    /// Asks the repository, or waits for whoever does.
    async fn look_up(
        self: &Arc<Self>,
        key: CacheKey,
        url: &SourceUrl,
        name: Option<&str>,
        client: Client,
    ) -> Result<Outcome, RevisionError> {
        loop {
            // What nobody waits for is not looked up: asking again costs nothing.
            let audience = Audience::new(Duration::ZERO);
            let _own = audience.attend(client);
            let start = || {
                let is_configured = self.configured == Some(key);
                let turns = match self.seen(&key) {
                    _ if is_configured => None,
                    Some(_) => Some(Arc::clone(&self.again)),
                    None => Some(Arc::clone(&self.first)),
                };
                let is_new = turns.as_ref().is_some_and(|turns| Arc::ptr_eq(turns, &self.first));
                let place = is_new.then(|| self.queue.enter(client, &audience)).transpose()?;
                let (refs, url, name) = (Arc::clone(self), url.clone(), name.map(str::to_owned));
                let audience = Arc::clone(&audience);
                Ok::<_, RevisionError>((Arc::clone(&audience), async move {
                    let _place = place;
                    // Whoever came between the look above and this one has it already.
                    if let Some(found) = refs.remembered(&key) {
                        return Ok(found);
                    }
                    let _turn = match turns {
                        Some(turns) => Some(turns.take(&audience).await?),
                        None => None,
                    };
                    let found = refs.found(&url, name.as_deref()).await;
                    refs.remember(key, &found);
                    Ok(found)
                }))
            };
            let (lookup, others): (Flight<Outcome>, _) = self.lookups.join_or(key, start)?;
            let attendance = others.attend(client);
            let outcome = lookup.await;
            // Without a place in its audience, it may have been given up.
            if outcome.is_ok() || attendance.is_some() {
                return Ok(outcome);
            }
        }
    }

    /// What the repository says, or of a channel those who publish it.
    async fn found(&self, url: &SourceUrl, name: Option<&str>) -> Found {
        if let (Some(channels), Some(name)) = (&self.channels, name)
            && Channels::may_have(name)
            && let Some(commit) = channels.commit(name).await?
        {
            return Ok(commit);
        }
        ls_remote(url, name).await
    }

    /// What need not be looked up.
    fn remembered(&self, key: &CacheKey) -> Option<Found> {
        let seen = self.last(key);
        if let Some((when, commit)) = &seen
            && when.elapsed() < self.interval
        {
            return Some(Ok(commit.clone()));
        }
        let (_, error) = self.failed.get(key).filter(|(until, _)| Instant::now() < *until)?;
        match (error, seen) {
            (RepositoryError::Unreachable(_), Some((when, commit))) if when.elapsed() < STALE => {
                Some(Ok(commit))
            }
            (error, _) => Some(Err(error)),
        }
    }

    /// The commit that a ref was at, if that is not too long ago.
    fn seen(&self, key: &CacheKey) -> Option<Commit> {
        self.last(key).filter(|(when, _)| when.elapsed() < STALE).map(|(_, commit)| commit)
    }

    fn last(&self, key: &CacheKey) -> Option<Seen> {
        if self.configured == Some(*key) {
            return self.latest.lock().expect("nothing panics while holding the lock").clone();
        }
        self.seen.get(key)
    }

    fn remember(&self, key: CacheKey, found: &Found) {
        let now = Instant::now();
        let seen = match found {
            Ok(commit) => Some((now, commit.clone())),
            Err(error) => {
                let is_gone = matches!(error, RepositoryError::NoSuchRef(_));
                let interval = if is_gone { NOT_FOUND_INTERVAL } else { UNREACHABLE_INTERVAL };
                self.failed.insert(key, (now + interval, error.clone()));
                if !is_gone {
                    return;
                }
                None
            }
        };
        if self.configured == Some(key) {
            *self.latest.lock().expect("nothing panics while holding the lock") = seen;
        } else if let Some(seen) = seen {
            self.seen.insert(key, seen);
        } else {
            self.seen.invalidate(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use tempfile::TempDir;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(3600);

    /// A repository that is connected to and never answers.
    fn silent() -> (TcpListener, SourceUrl) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("git://{}/set", listener.local_addr().expect("an address"));
        (listener, url.as_str().into())
    }

    fn commit() -> Commit {
        "0123456789012345678901234567890123456789".parse().expect("a commit")
    }

    async fn ask(refs: &Arc<Refs>, url: &SourceUrl, name: Option<&str>) -> Found {
        refs.commit(url, name, Client::NOBODY).await.expect("there is room")
    }

    #[tokio::test]
    async fn what_is_known_serves_while_the_repository_is_silent() {
        let (_listener, url) = silent();
        for configured in [None, Some(key(&url, Some("v1")))] {
            let refs = Arc::new(Refs::with(configured, Duration::ZERO, Duration::from_millis(1)));
            refs.remember(key(&url, Some("v1")), &Ok(commit()));
            assert_eq!(ask(&refs, &url, Some("v1")).await.expect("it was there"), commit());
        }
    }

    #[tokio::test]
    async fn what_is_known_serves_while_the_repository_is_gone() {
        let dir = TempDir::new().expect("a directory");
        let url: SourceUrl = format!("file://{}/nowhere", dir.path().display()).as_str().into();
        let refs = Arc::new(Refs::with(None, Duration::ZERO, LONG));
        let error = ask(&refs, &url, Some("v1")).await.expect_err("it is nowhere");
        assert!(matches!(error, RepositoryError::Unreachable(_)), "{error}");
        refs.remember(key(&url, Some("v1")), &Ok(commit()));
        // Remembered as unreachable, and then asked again.
        assert_eq!(ask(&refs, &url, Some("v1")).await.expect("it was there"), commit());
        refs.failed.invalidate_all();
        assert_eq!(ask(&refs, &url, Some("v1")).await.expect("it was there"), commit());
    }

    #[tokio::test]
    async fn a_ref_that_moves_is_seen_to_and_one_that_is_deleted_is_gone() {
        let dir = TempDir::new().expect("a directory");
        let repository = firn_tests::git::Repository::new(&dir.path().join("set"));
        let url: SourceUrl = repository.url().as_str().into();
        let refs = Arc::new(Refs::with(Some(key(&url, None)), Duration::ZERO, LONG));
        for text in ["{ }", "{ a = 1; }"] {
            let made = repository.commit(text);
            repository.git(&["branch", "--force", "other"]);
            for name in [None, Some("main"), Some("other")] {
                assert_eq!(ask(&refs, &url, name).await.expect("it is there").as_str(), made, "{name:?}");
            }
        }
        repository.git(&["branch", "--delete", "--force", "other"]);
        let error = ask(&refs, &url, Some("other")).await.expect_err("it is gone");
        assert!(matches!(error, RepositoryError::NoSuchRef(_)), "{error}");
    }
}
