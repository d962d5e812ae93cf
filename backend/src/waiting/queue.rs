//! A queue: limits how much may wait or run at once, in total and for each client.

use super::{
    audience::{Audience, Client, next_event},
    turns::Turn,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// Places for work that waits or runs.
#[derive(Debug)]
pub struct Queue {
    limit: usize,
    per_client: usize,
    taken: Arc<Taken>,
}

#[derive(Debug)]
struct Taken {
    /// By the number of the place.
    places: Mutex<HashMap<u64, Holder>>,
    /// The number of all places. Observed by callers that wait until it is 0.
    total: watch::Sender<usize>,
    is_closed: AtomicBool,
}

/// The holder of a place.
#[derive(Debug)]
struct Holder {
    audience: Arc<Audience>,
    /// With a turn, the place does not count towards the limits.
    turn: Option<Turn>,
}

/// A place in the queue, until it is dropped.
#[derive(Debug)]
pub struct Place {
    taken: Arc<Taken>,
    number: u64,
}

/// Why there is no place for a client. Other clients may still get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// All places are taken.
    #[error("too many images are waiting to be built; ask again in a moment")]
    Full,
    /// This client has as many places as one client may have.
    #[error(
        "{0} of your images are waiting to be built, which is as many as one client may have; ask again in a moment"
    )]
    Share(usize),
    /// This client recently asked for too many images that took too long to evaluate.
    #[error(
        "{0} of your images took too long to evaluate in the last minutes; images of packages that were never asked \
         for before have to wait for that, others are served"
    )]
    Overran(usize),
    /// Nothing more is started, because the server is about to end.
    #[error("this registry is being restarted; pull again")]
    Closed,
}

impl Queue {
    /// A queue of `limit` places. One client may have `per_client` of them, and at most half of all.
    pub fn new(limit: usize, per_client: usize) -> Self {
        let (places, total, is_closed) = Default::default();
        let per_client = per_client.min(limit.div_ceil(2));
        Self { limit, per_client, taken: Arc::new(Taken { places, total, is_closed }) }
    }

    /// Takes a place for a client's request. The place counts for every client of the audience.
    ///
    /// If all places are taken, one is taken away from work that waits for its turn and that no request waits for. It
    /// is taken from the client with the most places, if that has more than this client. The audience of that work is
    /// dismissed.
    ///
    /// # Errors
    /// If there is no place for this client.
    pub fn enter(&self, client: Client, audience: &Arc<Audience>) -> Result<Place, QueueError> {
        let mut places = self.taken.places();
        if self.is_closed() {
            return Err(QueueError::Closed);
        }
        let counted = || places.iter().filter(|(_, holder)| holder.turn.is_none());
        let mut owned: HashMap<Client, usize> = HashMap::new();
        for (client, _) in counted().flat_map(|(_, holder)| holder.audience.clients()) {
            *owned.entry(client).or_default() += 1;
        }
        let count = |client: &Client| owned.get(client).copied().unwrap_or(0);
        let own = if client.is_known() { count(&client) } else { 0 };
        if own >= self.per_client {
            return Err(QueueError::Share(own));
        }
        if counted().count() >= self.limit {
            // Work that also a client with few places asks for counts as that client's.
            let weight = |audience: &Audience| {
                let clients = audience.clients().into_iter();
                clients.map(|(client, _)| if client.is_known() { count(&client) } else { 1 }).min()
            };
            let mut unattended: Vec<_> = counted()
                .filter_map(|(number, Holder { audience, .. })| {
                    let since = audience.unattended_since()?;
                    Some((weight(audience).unwrap_or(usize::MAX), since, *number))
                })
                .filter(|(weight, ..)| *weight > own)
                .collect();
            unattended.sort_by_key(|(weight, since, _)| (std::cmp::Reverse(*weight), *since));
            let dismissed = unattended.into_iter().find(|(.., number)| places[number].audience.dismiss());
            let (.., number) = dismissed.ok_or(QueueError::Full)?;
            places.remove(&number);
        }
        Ok(self.place(&mut places, audience, None))
    }

    /// Takes a place that does not count, for work that has a turn elsewhere and ends soon.
    ///
    /// # Errors
    /// If the queue is closed.
    pub fn pass(&self, audience: &Arc<Audience>, turn: Turn) -> Result<Place, QueueError> {
        if self.is_closed() {
            return Err(QueueError::Closed);
        }
        Ok(self.place(&mut self.taken.places(), audience, Some(turn)))
    }

    /// From now on the place of this audience counts, because its work takes longer than expected. The place gives up
    /// its turn, and is not refused.
    pub fn count(&self, audience: &Arc<Audience>) {
        let mut places = self.taken.places();
        let holder = places.values_mut().find(|holder| Arc::ptr_eq(&holder.audience, audience));
        let turn = holder.and_then(|holder| holder.turn.take());
        // Dropping the turn may wake other work, so the lock is released before.
        drop(places);
        drop(turn);
    }

    fn place(
        &self,
        places: &mut HashMap<u64, Holder>,
        audience: &Arc<Audience>,
        turn: Option<Turn>,
    ) -> Place {
        let number = next_event();
        places.insert(number, Holder { audience: Arc::clone(audience), turn });
        self.taken.total.send_modify(|total| *total += 1);
        Place { taken: Arc::clone(&self.taken), number }
    }

    /// How many places are taken, including those that do not count.
    pub fn len(&self) -> usize {
        *self.taken.total.borrow()
    }

    /// Whether no place is taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes the queue: no more places are given.
    pub fn close(&self) {
        self.taken.is_closed.store(true, Ordering::SeqCst);
    }

    /// Whether the queue is closed.
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
    fn places(&self) -> MutexGuard<'_, HashMap<u64, Holder>> {
        self.places.lock().expect("nothing panics while holding the lock")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let holder = self.taken.places().remove(&self.number);
        drop(holder);
        self.taken.total.send_modify(|total| *total -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::audience::{Attendance, InLine};
    use super::*;
    use std::net::IpAddr;
    use std::time::Duration;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(3600);

    fn client(last: u8) -> Client {
        Client::at(IpAddr::from([10, 0, 0, last]))
    }

    /// An entry of the queue that one client waits for.
    fn enter(queue: &Queue, client: Client) -> Result<(Place, Arc<Audience>, Attendance), QueueError> {
        let audience = Audience::new(LONG);
        let attendance = audience.attend(client).expect("it is not dismissed");
        Ok((queue.enter(client, &audience)?, audience, attendance))
    }

    fn refused(queue: &Queue, client: Client) -> QueueError {
        enter(queue, client).map(drop).expect_err("there is no place")
    }

    #[tokio::test]
    async fn one_client_cannot_fill_the_queue() {
        let queue = Queue::new(5, 2);
        let own: Vec<_> = (0..2).map(|_| enter(&queue, client(1)).expect("a place")).collect();
        assert_eq!(refused(&queue, client(1)), QueueError::Share(2));
        let others: Vec<_> = (2..5).map(|i| enter(&queue, client(i)).expect("a place")).collect();
        assert_eq!(refused(&queue, client(9)), QueueError::Full);
        drop(own);
        assert!(enter(&queue, client(9)).is_ok());
        // [`Client::NOBODY`] may take all places.
        let many: Vec<_> = (0..2).map(|_| enter(&queue, Client::NOBODY).expect("a place")).collect();
        drop((many, others));
        queue.empty().await;
        assert!(queue.taken.places().is_empty());
        queue.close();
        assert_eq!(refused(&queue, client(1)), QueueError::Closed);
    }

    #[test]
    fn a_place_counts_for_every_client_that_waits_for_it() {
        let queue = Queue::new(100, 1);
        let (_place, audience, first) = enter(&queue, client(1)).expect("a place");
        let _second = audience.attend(client(2)).expect("it is not dismissed");
        assert_eq!(refused(&queue, client(2)), QueueError::Share(1));
        drop(first);
        assert_eq!(refused(&queue, client(1)), QueueError::Share(1), "it may come again");
    }

    #[test]
    fn a_queue_of_one_place_takes_any_client() {
        assert!(enter(&Queue::new(1, 10), client(1)).is_ok());
    }

    /// A full queue: one place for each of these clients, in this order, for work that waits for its turn.
    fn full(audiences: &[Arc<Audience>], who: &[u8]) -> (Queue, Vec<Place>) {
        let queue = Queue::new(who.len(), who.len());
        let places = audiences.iter().zip(who).map(|(audience, who)| {
            drop(audience.attend(client(*who)).expect("it is not dismissed"));
            queue.enter(client(*who), audience).expect("a place")
        });
        let places = places.collect();
        (queue, places)
    }

    #[test]
    fn the_client_with_most_places_makes_room() {
        let audiences = [(); 4].map(|()| Audience::new(LONG));
        let (queue, _places) = full(&audiences, &[1, 2, 2, 3]);
        assert_eq!(refused(&queue, client(4)), QueueError::Full, "all of them have begun");
        let _lines: Vec<InLine> = audiences.iter().map(|audience| audience.line_up()).collect();
        let can_join = || audiences.each_ref().map(|audience| audience.attend(client(9)).is_some());
        // Of two, the one that no request has waited for the longest.
        let fourth = enter(&queue, client(4)).expect("room is made");
        assert_eq!(can_join(), [true, false, true, true]);
        // The places of the other three, and of the new one, fill the queue.
        assert_eq!(queue.taken.places().len(), 4);
        assert_eq!(refused(&queue, client(4)), QueueError::Full, "no client has more places");
        drop(fourth);
    }

    #[test]
    fn work_that_a_request_waits_for_keeps_its_place() {
        let audiences = [(); 2].map(|()| Audience::new(LONG));
        let (queue, _places) = full(&audiences, &[1, 2]);
        let _lines: Vec<InLine> = audiences.iter().map(|audience| audience.line_up()).collect();
        let waits = audiences.each_ref().map(|audience| audience.attend(client(8)));
        assert_eq!(refused(&queue, client(4)), QueueError::Full);
        drop(waits);
    }

    #[tokio::test]
    async fn work_with_a_turn_does_not_count_as_waiting() {
        let queue = Queue::new(1, 1);
        let turns = super::super::turns::Turns::new(1);
        let audience = Audience::of(client(1));
        let turn = turns.take(&audience).await.expect("it is not dismissed");
        let soon = queue.pass(&audience, turn).expect("a place");
        assert_eq!(queue.len(), 1);
        drop(enter(&queue, client(1)).expect("a place"));
        // The work takes longer after all.
        queue.count(&audience);
        drop(turns.take(&audience).await.expect("the turn is free again"));
        assert_eq!(refused(&queue, client(1)), QueueError::Share(1));
        drop(soon);
        drop(enter(&queue, client(1)).expect("a place"));
    }
}
