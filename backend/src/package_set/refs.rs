//! The refs of repositories, cached so that a repository is asked about each ref only now and then.
//!
//! Callers may ask for made-up refs. These wait in a queue of their own and delay only each other. A ref that existed
//! before is looked up beside that queue, and the configured ref at once. While a repository is slow or does not
//! answer, its last answer is used for a while longer.

use super::{
    RepositoryError, RevisionError,
    channels::Channels,
    git_refs::{Found, ls_remote},
};
use crate::{
    waiting::Queue,
    waiting::Turns,
    waiting::{Abandoned, Audience, Client},
    waiting::{Flight, Flights},
};
use firn_shared::{
    cache_key::CacheKey,
    naming::{package_source::Commit, source_url::SourceUrl},
};
use moka::sync::Cache;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long the commit of a branch or tag is cached.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long it is used while the repository cannot be reached.
const STALE: Duration = Duration::from_secs(3600);
/// How long a request waits for the repository if the last commit of the ref is known.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a missing ref is cached. This is short, because people push a branch and then pull it.
const NOT_FOUND_INTERVAL: Duration = Duration::from_secs(10);
/// How long an unreachable repository is cached.
const UNREACHABLE_INTERVAL: Duration = Duration::from_secs(3);
/// How many refs are cached, and how many missing ones. There must be a limit because callers choose refs.
const MAX_REFS: u64 = 1000;
/// How many look-ups run at once: for refs that existed before, and again as many for others.
const AT_ONCE: usize = 4;
/// How many look-ups of refs that never existed may wait, and how many of one client.
const MAX_WAITING: usize = 100;
const MAX_WAITING_PER_CLIENT: usize = 10;

/// The commit of a ref, and when it was looked up.
type Seen = (Instant, Commit);

/// The result of a look-up.
type LookupResult = Result<Found, Abandoned>;

/// The cached refs of one source. Callers that ask for the same ref at once share one look-up.
#[derive(Debug)]
pub(super) struct Refs {
    interval: Duration,
    patience: Duration,
    /// The server of channels, if the source is nixpkgs.
    channels: Option<Channels>,
    /// The key of the ref that `latest` means. Its last commit is in `latest`.
    configured: Option<CacheKey>,
    latest: Mutex<Option<Seen>>,
    /// The last commits of the other refs.
    seen: Cache<CacheKey, Seen>,
    /// Failed look-ups, each with the time until which the failure is used.
    failed: Cache<CacheKey, (Instant, RepositoryError)>,
    lookups: Flights<LookupResult, Arc<Audience>>,
    queue: Queue,
    /// Turns for refs that existed before, and turns for others.
    again: Arc<Turns>,
    first: Arc<Turns>,
}

fn key(url: &SourceUrl, name: Option<&str>) -> CacheKey {
    CacheKey::builder("ref-1").field(url.public().as_str()).list(name.iter()).build()
}

impl Refs {
    /// The refs of a source. `configured` is the repository and ref that `latest` means, if it means a ref. With `channels`,
    /// the repository is that of nixpkgs.
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

    /// The commit of a branch or tag. Without a name, that of the default branch.
    ///
    /// # Errors
    /// If too many look-ups wait already. The repository's error is in the inner result.
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

    /// Asks the repository, or joins a look-up that is under way.
    async fn look_up(
        self: &Arc<Self>,
        key: CacheKey,
        url: &SourceUrl,
        name: Option<&str>,
        client: Client,
    ) -> Result<LookupResult, RevisionError> {
        loop {
            // A look-up that no client waits for is dropped at once: asking again costs nothing.
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
                    // Another caller may have looked it up since the first look.
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
            let (lookup, others): (Flight<LookupResult>, _) = self.lookups.join_or(key, start)?;
            let attendance = others.attend(client);
            let outcome = lookup.await;
            // If this client was not in the audience, the look-up may have been dropped. Then try again.
            if outcome.is_ok() || attendance.is_some() {
                return Ok(outcome);
            }
        }
    }

    /// Looks a ref up: a channel at its server, another ref in the repository.
    async fn found(&self, url: &SourceUrl, name: Option<&str>) -> Found {
        if let (Some(channels), Some(name)) = (&self.channels, name)
            && Channels::may_have(name)
            && let Some(commit) = channels.commit(name).await?
        {
            return Ok(commit);
        }
        ls_remote(url, name).await
    }

    /// The cached answer, if it is recent enough.
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

    /// The last commit of a ref, if it is not too old.
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

    /// A repository that accepts a connection and never answers.
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
        // The failure is cached first; afterwards the repository is asked again.
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
