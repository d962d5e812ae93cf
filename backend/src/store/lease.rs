//! The lease: the right to do alone, among all processes that share a store, what only one should do at a time.
//!
//! Its only lock is an object that can be created once, which directories, memory and every bucket have. (Replacing
//! an object on a condition would do as well, but directories cannot.) A lease is a sequence of terms, one object
//! each, `upkeep/terms/<number>`:
//!
//! - The latest term is the one with the largest number. Who wants the lease, or wants to renew it, creates the next
//!   one. Of several at once one succeeds, also when a holder renews while somebody takes over.
//! - The latest term is never deleted, so numbers only grow. Earlier ones are deleted by the holder of a later one. A
//!   process that was slow may create such a number again: it looks afterwards whether there is a later one, and
//!   holds nothing then.
//! - A holder ends its term by writing that into its own term's object, which nobody else writes. A holder that dies
//!   ends it by doing nothing: others create the next term when this one is as old as it said it would last.
//! - **Clocks.** A term's age is how much later than it the store has written an object just now ([`Store::now_ms`]):
//!   no machine's own clock counts. Stores tell times in seconds, so others wait one second more. A holder measures
//!   the time by a clock that nobody sets, from before it asked for the term, and stops after three quarters of it: the
//!   last quarter is for requests that are still under way. It renews after one quarter.
//! - A term from the future was written before the store's clock was set back. Somebody creates the next term, which
//!   nobody holds and which ends in due time; whoever held the one before cannot renew it and stops. When the store's
//!   clock jumps ahead, a term ends early for others, and its holder learns of it when it next renews it.
//!
//! A request that a holder has sent may reach the store at any later time, and a process may sleep between a look at
//! the clock and what it does next. No lock prevents that, so what is done under a lease must bear it; see
//! `upkeep/gc.rs`.

use super::{Store, StoreError, deletion};
use futures::TryStreamExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How exactly stores tell times, in milliseconds.
const RESOLUTION_MS: i64 = 1000;
/// How long a term lasts at most, in milliseconds, whatever its object says; also where that cannot be read.
const LONGEST_MS: i64 = 3_600_000;
/// After how long a renewal that failed is tried again, as a part of the term.
const RETRY: u32 = 20;
/// How often it is tried to give a term up. Others would have to wait until it passes.
const ATTEMPTS: usize = 3;

/// What a term's object says.
#[derive(Debug, Serialize, Deserialize)]
struct Term {
    /// Whose it is: random, and empty where it is nobody's.
    holder: String,
    /// How long it lasts.
    lasts_ms: i64,
    /// Whether its holder has ended it.
    ended: bool,
}

/// Whether the next term may be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Free,
    Held,
    FromTheFuture,
}

/// The lease, held by this process. It is given up by [`Lease::hold`], or passes by itself.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    holder: String,
    length: Duration,
    term: u64,
    began: Instant,
}

fn location(term: u64) -> Path {
    Path::from(format!("{}/terms/{term:020}", deletion::FOLDER))
}

impl Term {
    fn of(holder: &str, length: Duration) -> Self {
        let lasts_ms = i64::try_from(length.as_millis()).unwrap_or(i64::MAX).min(LONGEST_MS);
        Self { holder: holder.to_owned(), lasts_ms, ended: false }
    }

    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("terms have text keys")
    }
}

impl Store {
    /// The lease, whose holder is followed by others when it has not renewed it for `length`. Nothing where another
    /// process, or another part of this one, holds it.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Panics
    /// When the system has no random numbers.
    pub async fn lease(&self, length: Duration) -> Result<Option<Lease>, StoreError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect("the system has random numbers");
        let holder: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let latest = self.terms().await?.last().copied();
        let standing = match latest {
            Some(latest) => self.standing(latest).await?,
            None => Standing::Free,
        };
        let next = latest.map_or(1, |latest| latest.saturating_add(1));
        match standing {
            Standing::Held => Ok(None),
            Standing::FromTheFuture => {
                self.create(&location(next), Term::of("", length).bytes()).await?;
                Ok(None)
            }
            Standing::Free => {
                let began = Instant::now();
                let begun = self.begin(next, &holder, length).await;
                let lease = Lease { store: self.clone(), holder, length, term: next, began };
                match begun {
                    Ok(is_held) => Ok(is_held.then_some(lease)),
                    Err(error) => {
                        // It may have been created all the same, and would have to pass by itself.
                        if let Ok(Some(term)) = self.term(next).await
                            && term.holder == lease.holder
                        {
                            let _ = lease.end().await;
                        }
                        Err(error)
                    }
                }
            }
        }
    }

    /// What a term's object says; nothing where it is not there or cannot be read.
    async fn term(&self, term: u64) -> Result<Option<Term>, StoreError> {
        let bytes = self.read(&location(term)).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The numbers of the terms that are there, in order.
    async fn terms(&self) -> Result<Vec<u64>, StoreError> {
        let folder = Path::from(format!("{}/terms", deletion::FOLDER));
        let objects: Vec<_> = self.objects.list(Some(&folder)).try_collect().await?;
        let mut terms: Vec<u64> =
            objects.iter().filter_map(|object| object.location.filename()?.parse().ok()).collect();
        terms.sort_unstable();
        Ok(terms)
    }

    /// How it stands with the latest term.
    async fn standing(&self, latest: u64) -> Result<Standing, StoreError> {
        // Gone: there is a later one by now.
        let Some((object, bytes)) = self.read_object(&location(latest), u64::MAX).await? else {
            return Ok(Standing::Held);
        };
        let term: Option<Term> = serde_json::from_slice(&bytes).ok();
        if term.as_ref().is_some_and(|term| term.ended) {
            return Ok(Standing::Free);
        }
        let lasts_ms = term.map_or(LONGEST_MS, |term| term.lasts_ms.clamp(0, LONGEST_MS));
        let age_ms = self.now_ms().await?.saturating_sub(object.modified_ms);
        Ok(match age_ms {
            _ if age_ms < -RESOLUTION_MS => Standing::FromTheFuture,
            _ if age_ms >= lasts_ms + RESOLUTION_MS => Standing::Free,
            _ => Standing::Held,
        })
    }

    /// Begins a term; whether it is this holder's.
    async fn begin(&self, term: u64, holder: &str, length: Duration) -> Result<bool, StoreError> {
        let created = self.create(&location(term), Term::of(holder, length).bytes()).await;
        if !matches!(created, Ok(true)) {
            // An attempt that seemed to fail may have created it.
            match self.term(term).await {
                Ok(Some(found)) if found.holder == holder => {}
                _ => return created,
            }
        }
        let terms = self.terms().await?;
        if terms.last() != Some(&term) {
            return Ok(false);
        }
        for earlier in terms.iter().filter(|earlier| **earlier < term) {
            self.delete(&location(*earlier)).await?;
        }
        Ok(true)
    }
}

impl Lease {
    /// Which term of the lease this is. No two holders have had the same one.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Works for as long as the lease is held, and renews it meanwhile; then gives it up.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when it could not be renewed in time; the work has been dropped then. Other errors
    /// of the store when it could not be given up; it passes by itself then.
    pub async fn hold<T>(mut self, work: impl Future<Output = T>) -> Result<T, StoreError> {
        let mut work = pin!(work);
        let mut look = self.began + self.length / 4;
        loop {
            let ends = self.began + self.length * 3 / 4;
            tokio::select! {
                done = &mut work => {
                    self.end().await?;
                    return Ok(done);
                }
                () = sleep_until(look) => {}
            }
            // A renewal that has begun is not left alone: it may create a term that would have to pass by itself.
            let began = Instant::now();
            let (renewed, done) = {
                let next = self.term + 1;
                let mut renewal = pin!(timeout_at(ends, self.store.begin(next, &self.holder, self.length)));
                tokio::select! {
                    renewed = &mut renewal => (renewed, None),
                    done = &mut work => (renewal.await, Some(done)),
                }
            };
            match renewed {
                Ok(Ok(true)) => {
                    (self.term, self.began) = (self.term + 1, began);
                    look = began + self.length / 4;
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = %crate::error_chain::chain(&error), "the lease was not renewed");
                    look = Instant::now() + self.length / RETRY;
                }
                // It is somebody else's, or will be before an answer comes.
                Ok(Ok(false)) | Err(_) => return done.ok_or(StoreError::LeaseLost),
            }
            if let Some(done) = done {
                self.end().await?;
                return Ok(done);
            }
            if look >= self.began + self.length * 3 / 4 {
                return Err(StoreError::LeaseLost);
            }
        }
    }

    /// Gives it up. Only this holder writes this term's object, and where there is a later one it says nothing.
    async fn end(self) -> Result<(), StoreError> {
        let ended = Term { ended: true, ..Term::of(&self.holder, self.length) };
        let location = location(self.term);
        for _ in 1..ATTEMPTS {
            if self.store.put_unbounded(&location, ended.bytes()).await.is_ok() {
                return Ok(());
            }
        }
        self.store.put_unbounded(&location, ended.bytes()).await
    }
}

#[cfg(test)]
mod tests;
