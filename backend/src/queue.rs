//! A queue: how much may be waiting or under way at once, and how much of it one client's.

use crate::turns::Client;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// Places for what waits or is done.
#[derive(Debug)]
pub struct Queue {
    limit: usize,
    taken: Arc<Taken>,
}

#[derive(Debug)]
struct Taken {
    by_client: Mutex<HashMap<Client, usize>>,
    /// How many are taken altogether, for those who wait for it to be none.
    total: watch::Sender<usize>,
    is_closed: AtomicBool,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    taken: Arc<Taken>,
    client: Client,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// All places are taken.
    #[error("too many images are waiting to be built; ask again in a moment")]
    Full,
    /// This client has as many as one client may have.
    #[error(
        "{0} of your images are waiting to be built, which is as many as one client may have; ask again in a moment"
    )]
    Share(usize),
    /// Nothing is begun any more, because the server is about to end.
    #[error("this registry is being restarted; pull again")]
    Closed,
}

impl Queue {
    /// A queue of so many places. One client may have half of them, so that there is always room for others.
    pub fn new(limit: usize) -> Self {
        let (by_client, total, is_closed) = Default::default();
        let taken = Taken { by_client, total, is_closed };
        Self { limit, taken: Arc::new(taken) }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// When there is none for this client.
    pub fn enter(&self, client: Client) -> Result<Place, QueueError> {
        let mut by_client = self.taken.by_client();
        if self.is_closed() {
            return Err(QueueError::Closed);
        }
        let total = *self.taken.total.borrow();
        let share = self.limit.div_ceil(2);
        let own = by_client.get(&client).copied().unwrap_or(0);
        if total >= self.limit {
            return Err(QueueError::Full);
        }
        if client.is_known() && own >= share {
            return Err(QueueError::Share(own));
        }
        by_client.insert(client, own + 1);
        self.taken.total.send_modify(|total| *total += 1);
        Ok(Place { taken: Arc::clone(&self.taken), client })
    }

    /// How many places are taken.
    pub fn len(&self) -> usize {
        *self.taken.total.borrow()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.taken.is_closed.store(true, Ordering::SeqCst);
    }

    /// Whether nobody is let in any more.
    pub fn is_closed(&self) -> bool {
        self.taken.is_closed.load(Ordering::SeqCst)
    }

    /// Returns when no place is taken.
    pub async fn empty(&self) {
        // The sender lives as long as the queue.
        let _ = self.taken.total.subscribe().wait_for(|total| *total == 0).await;
    }
}

impl Taken {
    fn by_client(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.by_client.lock().expect("nothing panics while holding the lock")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_client = self.taken.by_client();
        if let Some(own) = by_client.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                by_client.remove(&self.client);
            }
        }
        self.taken.total.send_modify(|total| *total -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn client(last: u8) -> Client {
        Client::at(IpAddr::from([10, 0, 0, last]))
    }

    #[tokio::test]
    async fn nobody_fills_it_alone() {
        let queue = Queue::new(5);
        let own: Vec<_> = (0..3).map(|_| queue.enter(client(1)).expect("a place")).collect();
        assert_eq!(queue.enter(client(1)).expect_err("enough"), QueueError::Share(3));
        let others: Vec<_> = (2..4).map(|i| queue.enter(client(i)).expect("a place")).collect();
        assert_eq!(queue.enter(client(9)).expect_err("full"), QueueError::Full);
        drop(own);
        assert!(queue.enter(client(9)).is_ok());
        // Those who are many have all of it.
        let many: Vec<_> = (0..3).map(|_| queue.enter(Client::NOBODY).expect("a place")).collect();
        drop((many, others));
        queue.empty().await;
        assert!(queue.taken.by_client().is_empty());
        queue.close();
        assert_eq!(queue.enter(client(1)).expect_err("closed"), QueueError::Closed);
    }

    #[test]
    fn a_single_place_is_for_everybody() {
        assert!(Queue::new(1).enter(client(1)).is_ok());
    }
}
