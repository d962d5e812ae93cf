//! How many connections there are, in all and of each client, so that no client takes the descriptors of all others.
//!
//! A client is an address ([`Client`]). Through an edge many clients come from few addresses: a connection counts until
//! a request on it is signed by the edge, and no longer. Whoever cannot sign is held to the limit there, too.

use crate::waiting::Client;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// The connections that are open.
#[derive(Debug)]
pub(super) struct Crowd {
    /// How many there may be in all.
    all: usize,
    /// How many each client may have.
    each: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// Those of each client that has any.
    each: HashMap<Client, usize>,
}

/// One connection among them, until it is dropped. Clones are of the same connection.
#[derive(Debug, Clone)]
pub(super) struct CountedConnection(Arc<Held>);

#[derive(Debug)]
struct Held {
    crowd: Arc<Crowd>,
    /// Whose it is, while it counts against that client.
    client: Mutex<Option<Client>>,
}

impl Crowd {
    /// None yet.
    pub(super) fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { all, each, counts: Mutex::default() })
    }

    /// Another connection of this client, if it may have one.
    pub(super) fn enter(self: &Arc<Self>, client: Client) -> Option<CountedConnection> {
        let mut counts = self.counts();
        let own = counts.each.get(&client).copied().unwrap_or_default();
        if counts.all >= self.all || own >= self.each {
            return None;
        }
        counts.all += 1;
        counts.each.insert(client, own + 1);
        drop(counts);
        Some(CountedConnection(Arc::new(Held { crowd: Arc::clone(self), client: Mutex::new(Some(client)) })))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("nothing panics while holding the lock")
    }
}

impl CountedConnection {
    /// The connection is the edge's: from now on it counts against no client.
    pub(super) fn is_the_edges(&self) {
        self.0.release();
    }
}

impl Held {
    fn release(&self) {
        let client = self.client.lock().expect("nothing panics while holding the lock").take();
        let Some(client) = client else { return };
        let mut counts = self.crowd.counts();
        if let Some(own) = counts.each.get_mut(&client) {
            *own -= 1;
            if *own == 0 {
                counts.each.remove(&client);
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
        self.crowd.counts().all -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn client(address: &str) -> Client {
        Client::at(address.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn connections_per_network_are_limited() {
        let crowd = Crowd::new(100, 2);
        let enter = |address: &str| crowd.enter(client(address));
        let (first, second) = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(first.is_some() && second.is_some());
        assert!(enter("2001:db8::3").is_none(), "it is the same network");
        assert!(enter("2001:db8:0:1::1").is_some());
        drop(second);
        let third = enter("2001:db8::3");
        assert!(third.is_some());
        assert!(enter("2001:db8::4").is_none());
        drop((first, third));
        assert_eq!(crowd.counts().each.len(), 0);
        assert_eq!(crowd.counts().all, 0);
    }

    #[test]
    fn connections_of_the_edge_are_not_limited_per_client() {
        let crowd = Crowd::new(5, 2);
        let edge = client("10.0.0.1");
        let places: Vec<_> = (0..4)
            .map(|_| crowd.enter(edge).inspect(CountedConnection::is_the_edges).expect("room for it"))
            .collect();
        let stranger = crowd.enter(edge).expect("none counts");
        assert!(crowd.enter(client("10.0.0.2")).is_none(), "that is all");
        drop(places);
        let another = crowd.enter(edge);
        assert!(another.is_some() && crowd.enter(edge).is_none(), "two that have signed nothing");
        drop((stranger, another));
        assert_eq!(crowd.counts().all, 0);
    }
}
