//! The lease: among all processes that share a store, only its holder may do certain work.
//!
//! The only lock is an object that can be created once. Directories, memory and every bucket support that. (A
//! conditional replacement would do as well, but directories do not support it.) A lease is a sequence of terms, one
//! object each, `upkeep/terms/<number>`:
//!
//! - The term with the largest number is the latest. To take or renew the lease, a process creates the next term. If
//!   several try at once, one succeeds, also if one of them is the holder that renews.
//! - The latest term is never deleted, so numbers only grow. The holder of a term deletes the earlier ones. A slow
//!   process may create a deleted number again. So it checks afterwards whether there is a later term; if there is,
//!   it does not hold the lease.
//! - A holder ends its term by writing that into its term's object, which no other process writes. If the holder
//!   dies, others create the next term once this one is as old as its stated duration.
//! - **Clocks.** To find a term's age, a process writes an object ([`Store::now_ms`]) and compares the two times that
//!   the store recorded. No machine's own clock counts. Stores record times in seconds, so other processes wait one
//!   second more. A holder measures with a monotonic clock, from before it asked for the term. It renews after one
//!   quarter of the term, and stops after three quarters: the last quarter is for requests that are still under way.
//! - If a term is from the future, the store's clock was set back. A process then creates the next term without a
//!   holder, which expires as usual. The holder before cannot renew, and stops. If the store's clock jumps ahead, a
//!   term expires early for others, and its holder learns of it when it renews.
//!
//! A request of a holder may reach the store at any later time, and a process may sleep between reading the clock and
//! its next action. No lock prevents that. So work under a lease must tolerate it; see `upkeep/gc.rs`.

use super::{Store, StoreError, folders::UPKEEP};
use futures::TryStreamExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// The resolution of a store's times in milliseconds.
const RESOLUTION_MS: i64 = 1000;
/// The longest duration of a term in milliseconds, whatever its object says. Also the duration if the object cannot
/// be read.
const LONGEST_MS: i64 = 3_600_000;
/// A failed renewal is tried again after the term's duration divided by this.
const RETRY: u32 = 20;
/// How many times to try to end a term. If all fail, others wait until it expires.
const ATTEMPTS: usize = 3;

/// The contents of a term's object.
#[derive(Debug, Serialize, Deserialize)]
struct Term {
    /// A random id of the holder. Empty if there is no holder.
    holder: String,
    /// Duration in milliseconds.
    lasts_ms: i64,
    /// Whether the holder has ended the term.
    ended: bool,
}

/// Whether a process may create the next term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TermState {
    Free,
    Held,
    FromTheFuture,
}

/// The lease, held by this process. [`Lease::hold`] ends it; otherwise it expires.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    holder: String,
    length: Duration,
    term: u64,
    began: Instant,
}

fn location(term: u64) -> Path {
    Path::from(format!("{}/terms/{term:020}", UPKEEP))
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
    /// Takes the lease. If it is not renewed for `length`, other processes may take it. None if another process, or
    /// another part of this one, holds it.
    ///
    /// # Errors
    /// If the store fails.
    ///
    /// # Panics
    /// If the system has no random numbers.
    pub async fn lease(&self, length: Duration) -> Result<Option<Lease>, StoreError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect("the system has random numbers");
        let holder: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let latest = self.terms().await?.last().copied();
        let state = match latest {
            Some(latest) => self.term_state(latest).await?,
            None => TermState::Free,
        };
        let next = latest.map_or(1, |latest| latest.saturating_add(1));
        match state {
            TermState::Held => Ok(None),
            TermState::FromTheFuture => {
                self.create(&location(next), Term::of("", length).bytes()).await?;
                Ok(None)
            }
            TermState::Free => {
                let began = Instant::now();
                let begun = self.begin(next, &holder, length).await;
                let lease = Lease { store: self.clone(), holder, length, term: next, began };
                match begun {
                    Ok(is_held) => Ok(is_held.then_some(lease)),
                    Err(error) => {
                        // The term may have been created nevertheless. Then it must be ended, or others wait until it
                        // expires.
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

    /// The contents of a term's object. None if it is missing or cannot be read.
    async fn term(&self, term: u64) -> Result<Option<Term>, StoreError> {
        let bytes = self.read(&location(term)).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The numbers of the existing terms, in order.
    async fn terms(&self) -> Result<Vec<u64>, StoreError> {
        let folder = Path::from(format!("{}/terms", UPKEEP));
        let objects: Vec<_> = self.objects.list(Some(&folder)).try_collect().await?;
        let mut terms: Vec<u64> =
            objects.iter().filter_map(|object| object.location.filename()?.parse().ok()).collect();
        terms.sort_unstable();
        Ok(terms)
    }

    /// Whether the latest term is held.
    async fn term_state(&self, latest: u64) -> Result<TermState, StoreError> {
        // It was deleted, so there is a later term.
        let Some((object, bytes)) = self.read_object(&location(latest), u64::MAX).await? else {
            return Ok(TermState::Held);
        };
        let term: Option<Term> = serde_json::from_slice(&bytes).ok();
        if term.as_ref().is_some_and(|term| term.ended) {
            return Ok(TermState::Free);
        }
        let lasts_ms = term.map_or(LONGEST_MS, |term| term.lasts_ms.clamp(0, LONGEST_MS));
        let age_ms = self.now_ms().await?.saturating_sub(object.modified_ms);
        Ok(match age_ms {
            _ if age_ms < -RESOLUTION_MS => TermState::FromTheFuture,
            _ if age_ms >= lasts_ms + RESOLUTION_MS => TermState::Free,
            _ => TermState::Held,
        })
    }

    /// Creates a term. Returns whether this holder has the lease.
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
    /// The number of the term. Every holder has a different one.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Does the work while it holds and renews the lease. Then ends the lease.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] if the lease could not be renewed in time; the work was dropped. Other errors of the
    /// store if the lease could not be ended; it then expires.
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
            // A renewal that has begun must be awaited: it may create a term that others would have to wait for.
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
                // Another process holds the lease, or may hold it before an answer comes.
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

    /// Ends the lease. Only this holder writes this term's object. If there is a later term, this has no effect.
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
