//! One binary cache: asked for path infos, and left alone for a while after it failed.

use super::cache_info::CacheInfo;
use super::error::CacheFailure;
use super::narinfo::{self, Authenticity, Narinfo};
use super::transport::{Transport, TransportError};
use super::{CacheUrl, Limits, Source, TrustedKeys};
use firn_shared::{StorePath, nix::closure::PathInfo, nix::store_path::STORE_DIR};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The size limit of `/nix-cache-info`, in bytes.
const INFO_SIZE: usize = 64 << 10;
/// How many small files of a cache are fetched at once: enough to hide the network's latency, few enough for a shared
/// cache.
const AT_ONCE: usize = 16;
/// How often a small file is asked for.
const ATTEMPTS: u32 = 3;
/// The priority of a cache that does not answer.
const UNKNOWN_PRIORITY: u32 = 50;

/// A binary cache.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) url: CacheUrl,
    pub(super) transport: Transport,
    limits: Limits,
    /// What it says of itself, and since when. Held while it is asked.
    info: tokio::sync::Mutex<Option<(Instant, CacheInfo)>>,
    /// Since when its priority is being asked for.
    asking: Mutex<Option<Instant>>,
    turns: Semaphore,
    /// Since when it is left alone, for how long, and why.
    aside: Mutex<Option<(Instant, Duration, String)>>,
    /// Until when it is not relied on to deliver NARs.
    unreliable: Mutex<Option<Instant>>,
}

impl Cache {
    pub(super) fn new(url: CacheUrl, transport: Transport, limits: Limits) -> Self {
        let (info, asking, aside, unreliable) = Default::default();
        Self { url, transport, limits, info, asking, turns: Semaphore::new(AT_ONCE), aside, unreliable }
    }

    /// The cache with the lowest number is asked first. The operator's word counts more than the cache's. A cache that does not
    /// answer soon gets a number in the middle: what it has to say may not matter.
    pub(super) async fn priority(self: &Arc<Self>) -> u32 {
        if let Some(priority) = self.url.priority {
            return priority;
        }
        if let Ok(info) = self.info.try_lock()
            && let Some(info) = self.still_known(&info)
        {
            return info.priority;
        }
        let since = *lock(&self.asking).get_or_insert_with(Instant::now);
        let this = Arc::clone(self);
        // It goes on when nobody waits any more, so that the next closure has the answer.
        let asking = tokio::spawn(async move {
            let info = this.info().await;
            *lock(&this.asking) = None;
            info.map_or(UNKNOWN_PRIORITY, |info| info.priority)
        });
        let wait = self.limits.priority.saturating_sub(since.elapsed());
        match tokio::time::timeout(wait, asking).await {
            Ok(Ok(priority)) => priority,
            _ => UNKNOWN_PRIORITY,
        }
    }

    /// What the cache says of itself.
    pub(super) async fn info(&self) -> Result<CacheInfo, CacheFailure> {
        let mut known = self.info.lock().await;
        let info = match self.still_known(&known) {
            Some(info) => info.clone(),
            None => {
                let text = self.small("nix-cache-info", INFO_SIZE).await?.ok_or(CacheFailure::NoCache)?;
                let info = CacheInfo::parse(&String::from_utf8_lossy(&text));
                known.insert((Instant::now(), info)).1.clone()
            }
        };
        match &*info.store_dir {
            STORE_DIR => Ok(info),
            other => Err(CacheFailure::OtherStore(other.chars().take(200).collect())),
        }
    }

    /// What is known, if it need not be asked for again. That it is a cache for another store may have been a mistake.
    fn still_known<'a>(&self, known: &'a Option<(Instant, CacheInfo)>) -> Option<&'a CacheInfo> {
        let (since, info) = known.as_ref()?;
        (info.store_dir == STORE_DIR || since.elapsed() < self.limits.aside).then_some(info)
    }

    /// What the cache has of a path, checked; `None` if it has nothing.
    pub(super) async fn find(
        &self,
        path: &StorePath,
        keys: &TrustedKeys,
    ) -> Result<Option<(PathInfo, Source)>, CacheFailure> {
        self.info().await?;
        let name = format!("{}.narinfo", path.hash_part());
        let Some(text) = self.small(&name, narinfo::MAX_SIZE).await? else { return Ok(None) };
        let text = String::from_utf8(text).map_err(|error| CacheFailure::Malformed(error.to_string()))?;
        self.check(path, &text, keys).map(Some)
    }

    /// Checks a narinfo: well-formed, of this path, and authentic.
    pub(super) fn check(
        &self,
        path: &StorePath,
        text: &str,
        keys: &TrustedKeys,
    ) -> Result<(PathInfo, Source), CacheFailure> {
        let narinfo = Narinfo::parse(text.as_bytes());
        let narinfo = narinfo.map_err(|error| CacheFailure::Malformed(error.to_string()))?;
        if narinfo.info.path != *path {
            return Err(CacheFailure::OtherPath(narinfo.info.path));
        }
        let authenticity = narinfo.authenticity(keys.keys());
        if authenticity.is_none() && !self.url.is_trusted {
            return Err(CacheFailure::Unsigned);
        }
        // The word of a trusted cache counts for the size too.
        let authenticity = authenticity
            .filter(|authenticity| !self.url.is_trusted || matches!(authenticity, Authenticity::Signed(_)));
        let source = Source::new(self.url.name(), &narinfo, authenticity.as_ref());
        Ok((narinfo.info, source))
    }

    /// A small file, asked for more than once if need be. Afterwards the cache is left alone.
    async fn small(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, CacheFailure> {
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        if let Some(reason) = self.is_aside() {
            return Err(CacheFailure::SetAside(reason));
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let fetched = tokio::time::timeout(self.limits.small_file, self.transport.small(name, limit));
            let error = match fetched.await.unwrap_or(Err(TransportError::Slow)) {
                Ok(file) => return Ok(file),
                Err(error) => error,
            };
            let wait = error.retry_after().unwrap_or(self.limits.pause * 4_u32.pow(attempt - 1));
            if !error.is_transient() || attempt == ATTEMPTS || wait > self.limits.longest_pause {
                if error.is_transient() {
                    self.set_aside(wait.max(self.limits.aside).min(self.limits.longest_aside), &error);
                }
                return Err(error.into());
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Remembers that the cache did not deliver a NAR. For this long, other caches come first, for all paths. It is still asked
    /// what it has: it may be the only one.
    pub(super) fn note_unreliable(&self, time: Duration) {
        let mut unreliable = lock(&self.unreliable);
        *unreliable = (*unreliable).max(Some(Instant::now() + time));
    }

    /// Whether other caches come first.
    pub(super) fn is_unreliable(&self) -> bool {
        lock(&self.unreliable).is_some_and(|until| Instant::now() < until)
    }

    fn set_aside(&self, time: Duration, error: &TransportError) {
        tracing::warn!(cache = %self.url, reason = %error, seconds = time.as_secs(), "a binary cache fails and is left alone");
        let aside = (Instant::now(), time, error.to_string());
        *lock(&self.aside) = Some(aside);
    }

    /// Why the cache is left alone, if it is.
    fn is_aside(&self) -> Option<String> {
        let mut aside = lock(&self.aside);
        aside.take_if(|(since, time, _)| since.elapsed() >= *time);
        aside.as_ref().map(|(.., reason)| reason.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
