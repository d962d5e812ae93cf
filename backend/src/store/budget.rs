//! How much the store may hold.
//!
//! Everything that is written is counted before it is written, the bytes of unfinished blobs too, so that the
//! store is never larger than its budget, whatever it is asked for. What counts is what `firn gc` last found
//! and what this process has written since: replicas that share a bucket know of each other's writes after
//! the next collection.

use super::{ObjectKind, Store, StoreError};
use futures::TryStreamExt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// What a file takes at least: file systems give out space in blocks of this many bytes.
const BLOCK: u64 = 4096;

/// The part of the budget that is only for what collecting garbage takes.
const MARGIN: u64 = 16;

/// The space that an object of this size takes, in bytes.
pub fn footprint(size: u64) -> u64 {
    (size + 1).next_multiple_of(BLOCK)
}

/// There is no room left for what was to be written.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the budget of {} MiB for storage is used up", limit >> 20)]
pub struct BudgetSpent {
    /// The budget, in bytes.
    pub limit: u64,
}

/// What there is and what there may be, in bytes.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    counts: Mutex<Counts>,
    spent: Notify,
}

#[derive(Debug)]
struct Counts {
    limit: u64,
    /// What is stored.
    stored: u64,
    /// Room for what is being written.
    reserved: u64,
}

/// Room that was set aside; given back unless it is kept.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Budget,
    bytes: u64,
}

impl Default for Budget {
    fn default() -> Self {
        let counts = Mutex::new(Counts { limit: u64::MAX, stored: 0, reserved: 0 });
        Self(Arc::new(Shared { counts, spent: Notify::new() }))
    }
}

impl Budget {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.counts.lock().expect("nothing panics while holding the lock")
    }

    /// Room for nothing yet.
    pub(super) fn nothing(&self) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0 }
    }

    /// Room for an object of this size.
    pub(super) fn reserve(&self, size: u64) -> Result<Reservation, StoreError> {
        let mut reservation = self.nothing();
        reservation.grow(footprint(size)).map_err(StoreError::Budget)?;
        Ok(reservation)
    }

    /// An object of this size is gone.
    pub(super) fn release(&self, size: u64) {
        let mut counts = self.counts();
        counts.stored = counts.stored.saturating_sub(footprint(size));
    }
}

impl Reservation {
    fn grow(&mut self, bytes: u64) -> Result<(), BudgetSpent> {
        let mut counts = self.budget.counts();
        let used = counts.stored.saturating_add(counts.reserved).saturating_add(bytes);
        if used > counts.limit - counts.limit / MARGIN {
            self.budget.0.spent.notify_one();
            return Err(BudgetSpent { limit: counts.limit });
        }
        counts.reserved += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Makes room for an object of this size.
    pub(super) fn cover(&mut self, size: u64) -> io::Result<()> {
        match footprint(size).checked_sub(self.bytes) {
            Some(more @ 1..) => {
                self.grow(more).map_err(|spent| io::Error::new(io::ErrorKind::StorageFull, spent))
            }
            _ => Ok(()),
        }
    }

    /// What was set aside is used.
    pub(super) fn keep(mut self) {
        let mut counts = self.budget.counts();
        counts.reserved -= self.bytes;
        counts.stored += self.bytes;
        drop(counts);
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.counts().reserved -= self.bytes;
    }
}

impl Store {
    /// From now on the store may hold this many bytes and no more. Counts what is there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn limit(&self, bytes: u64) -> Result<(), StoreError> {
        self.recount().await?;
        self.budget.counts().limit = bytes;
        Ok(())
    }

    /// Counts what is there, in bytes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn recount(&self) -> Result<u64, StoreError> {
        let before = self.budget.counts().stored;
        let stored = self
            .objects()
            .try_fold(0, async |sum, object| match object.kind {
                // Room for it is reserved.
                ObjectKind::Unfinished => Ok(sum),
                _ => Ok(sum + footprint(object.size)),
            })
            .await?;
        // What was written while counting may have been counted or not: it is.
        let mut counts = self.budget.counts();
        counts.stored = stored + counts.stored.saturating_sub(before);
        Ok(stored)
    }

    /// What the store holds as far as this process knows, in bytes.
    pub fn used(&self) -> u64 {
        let counts = self.budget.counts();
        counts.stored + counts.reserved
    }

    /// Returns when something was refused for want of room.
    pub async fn budget_spent(&self) {
        self.budget.0.spent.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_shared::Digest;
    use std::io::Write;

    #[tokio::test]
    async fn nothing_is_written_past_the_budget() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open("memory://", dir.path()).expect("a store");
        store.put_blob(&Digest::of(&[0; 5000]), vec![0; 5000]).await.expect("there is room");
        store.limit(20_000).await.expect("counted");
        assert_eq!(store.used(), 8192);
        let refused = |error: &StoreError| matches!(error, StoreError::Budget(BudgetSpent { limit: 20_000 }));
        let put = store.put_blob(&Digest::of(&[1; 12_000]), vec![1; 12_000]).await;
        assert!(refused(&put.expect_err("there is no room")));
        // An unfinished blob takes room too, and gives it back.
        let mut staged = store.stage().expect("a place");
        staged.write_all(&[2; 8000]).expect("there is room");
        let error = staged.write_all(&[2; 8000]).expect_err("there is no room");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        drop(staged);
        assert_eq!(store.used(), 8192);
        let mut staged = store.stage().expect("a place");
        staged.write_all(&[3; 8000]).expect("there is room");
        store.commit(staged, &Digest::of(&[3; 8000])).await.expect("committed");
        assert_eq!(store.used(), 16_384);
        tokio::time::timeout(std::time::Duration::from_secs(10), store.budget_spent()).await.expect("told");
    }
}
