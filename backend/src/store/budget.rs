//! How much the store may hold.
//!
//! Everything is counted before it is written, including the bytes of unfinished blobs, so the store never exceeds
//! its budget. The count is what `firn gc` last found, plus what this process has written since. Replicas that share
//! a bucket learn of each other's writes at the next collection.

use super::{ObjectKind, Store, StoreError};
use futures::TryStreamExt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// File systems allocate space in blocks of this many bytes, so a file takes at least one.
const BLOCK: u64 = 4096;

/// One part in this many of the budget is reserved for garbage collection.
const MARGIN: u64 = 16;

/// The space in bytes that an object of this size takes.
pub fn footprint(size: u64) -> u64 {
    (size + 1).next_multiple_of(BLOCK)
}

/// The budget has no room for the object.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the budget of {} MiB for storage is used up", limit >> 20)]
pub struct BudgetSpent {
    /// The budget in bytes.
    pub limit: u64,
}

/// How many bytes the store has and may have.
#[derive(Debug, Clone)]
pub(super) struct MemoryBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    counts: Mutex<Counts>,
    spent: Notify,
}

#[derive(Debug)]
struct Counts {
    limit: u64,
    /// Bytes that are stored.
    stored: u64,
    /// Bytes reserved for objects that are being written.
    reserved: u64,
}

/// Reserved room. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: MemoryBudget,
    bytes: u64,
}

impl Default for MemoryBudget {
    fn default() -> Self {
        let counts = Mutex::new(Counts { limit: u64::MAX, stored: 0, reserved: 0 });
        Self(Arc::new(Shared { counts, spent: Notify::new() }))
    }
}

impl MemoryBudget {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.counts.lock().expect("nothing panics while holding the lock")
    }

    /// A reservation of 0 bytes.
    pub(super) fn nothing(&self) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0 }
    }

    /// Reserves room for an object of this size.
    pub(super) fn reserve(&self, size: u64) -> Result<Reservation, StoreError> {
        let mut reservation = self.nothing();
        reservation.grow(footprint(size)).map_err(StoreError::Budget)?;
        Ok(reservation)
    }

    /// Gives back the room of a deleted object of this size.
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

    /// Grows the reservation to hold an object of this size.
    pub(super) fn cover(&mut self, size: u64) -> io::Result<()> {
        match footprint(size).checked_sub(self.bytes) {
            Some(more @ 1..) => {
                self.grow(more).map_err(|spent| io::Error::new(io::ErrorKind::StorageFull, spent))
            }
            _ => Ok(()),
        }
    }

    /// Counts the reserved room as stored.
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
    /// Sets the limit of the store in bytes, and counts what it holds.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn limit(&self, bytes: u64) -> Result<(), StoreError> {
        self.recount().await?;
        self.budget.counts().limit = bytes;
        Ok(())
    }

    /// Counts the bytes that the store holds.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn recount(&self) -> Result<u64, StoreError> {
        let before = self.budget.counts().stored;
        let stored = self
            .objects()
            .try_fold(0, async |sum, object| match object.kind {
                // Room for it has been reserved.
                ObjectKind::Unfinished => Ok(sum),
                _ => Ok(sum + footprint(object.size)),
            })
            .await?;
        // Objects written during the count may be in it or not. Count them.
        let mut counts = self.budget.counts();
        counts.stored = stored + counts.stored.saturating_sub(before);
        Ok(stored)
    }

    /// How many bytes the store holds, as far as this process knows.
    pub fn used(&self) -> u64 {
        let counts = self.budget.counts();
        counts.stored + counts.reserved
    }

    /// Returns when a write was refused because the budget is used up.
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
        // An unfinished blob takes room too, and gives it back if it is dropped.
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
