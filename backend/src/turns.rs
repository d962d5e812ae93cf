//! Turns: so much may be done at once, and clients take turns at it.
//!
//! A semaphore that serves in order of arrival lets one client who asks for a hundred things keep everybody
//! else waiting for all of them. Here the next turn goes to another client where one waits: within a client
//! in order of arrival, among clients round and round.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::oneshot;

/// For whom something is done, as far as fairness goes.
///
/// Of an IPv6 address only the first 64 bits count: whoever has one has all with the same beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(Option<IpAddr>);

impl Client {
    /// Firn itself, the person at the command line, or an edge that does not say for whom it asks.
    pub const NOBODY: Self = Self(None);

    /// Whoever is at this address.
    pub fn at(address: IpAddr) -> Self {
        const NETWORK: u128 = !0 << 64;
        Self(Some(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
            address => address,
        }))
    }

    /// Whether this is one client rather than any number of them.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }
}

/// A number of turns that are free, and those who wait for one.
#[derive(Debug)]
pub struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    /// Who waits, next one first. No client is there twice or without a waiter.
    clients: VecDeque<(Client, VecDeque<oneshot::Sender<Turn>>)>,
}

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    /// None when the turn has been passed on.
    turns: Option<Arc<Turns>>,
}

impl Turns {
    /// Lets so many at once have their turn, at least one.
    pub fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { free: at_once.max(1), clients: VecDeque::new() })))
    }

    /// Waits for a turn. Who stops waiting loses nothing for others.
    pub async fn take(self: &Arc<Self>, client: Client) -> Turn {
        let turn = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Turn { turns: Some(Arc::clone(self)) };
            }
            let (sender, turn) = oneshot::channel();
            match state.clients.iter_mut().find(|(waiting, _)| *waiting == client) {
                Some((_, waiters)) => waiters.push_back(sender),
                None => state.clients.push_back((client, [sender].into())),
            }
            turn
        };
        turn.await.expect("whoever waits keeps the turns alive")
    }

    /// Gives a turn that has ended to the next one who waits.
    fn pass_on(self: &Arc<Self>) {
        let mut turn = Turn { turns: Some(Arc::clone(self)) };
        while let Some(next) = self.state().next() {
            match next.send(turn) {
                Ok(()) => return,
                // That one has stopped waiting.
                Err(back) => turn = back,
            }
        }
        turn.turns = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while holding the lock")
    }
}

impl State {
    /// The next one who waits; with nobody there the turn becomes free.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let Some((client, mut waiters)) = self.clients.pop_front() else {
            self.free += 1;
            return None;
        };
        let next = waiters.pop_front();
        if !waiters.is_empty() {
            self.clients.push_back((client, waiters));
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::pin::Pin;

    fn client(last: u8) -> Client {
        Client::at(IpAddr::from([10, 0, 0, last]))
    }

    type Waiter = Pin<Box<dyn Future<Output = Turn> + Send>>;

    /// A waiter that stands in the line already.
    fn wait(turns: &Arc<Turns>, who: Client) -> Waiter {
        let turns = Arc::clone(turns);
        let mut waiter: Waiter = Box::pin(async move { turns.take(who).await });
        assert!((&mut waiter).now_or_never().is_none(), "nothing is free");
        waiter
    }

    #[tokio::test]
    async fn clients_take_turns() {
        let turns = Turns::new(1);
        let mut turn = turns.take(client(1)).await;
        let mut line: Vec<(&str, Waiter)> = Vec::new();
        for name in ["a1", "a2", "a3", "a4"] {
            line.push((name, wait(&turns, client(1))));
        }
        line.push(("b1", wait(&turns, client(2))));
        line.push(("b2", wait(&turns, client(2))));
        line.push(("c1", wait(&turns, client(3))));
        let mut order = Vec::new();
        while !line.is_empty() {
            drop(turn);
            let (at, next) = line
                .iter_mut()
                .enumerate()
                .find_map(|(at, (_, waiter))| waiter.now_or_never().map(|turn| (at, turn)))
                .expect("somebody is next");
            turn = next;
            order.push(line.remove(at).0);
        }
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
    }

    #[tokio::test]
    async fn who_leaves_the_line_costs_no_turn() {
        let turns = Turns::new(2);
        let (first, second) = (turns.take(client(1)).await, turns.take(client(1)).await);
        let gone: Vec<_> = (0..100).map(|i| wait(&turns, client(i))).collect();
        let stays = wait(&turns, client(7));
        drop(gone);
        drop(first);
        let third = stays.await;
        // One that was given a turn and never looked at it.
        let unaware = wait(&turns, client(8));
        drop(second);
        drop(unaware);
        drop(third);
        let both = (turns.take(client(1)).await, turns.take(client(2)).await);
        assert_eq!(turns.state().free, 0);
        drop(both);
        assert_eq!(turns.state().free, 2);
    }

    #[test]
    fn one_client_is_one_client() {
        let at = |text: &str| Client::at(text.parse().expect("an address"));
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
        assert!(!Client::NOBODY.is_known() && at("10.0.0.1").is_known());
    }
}
