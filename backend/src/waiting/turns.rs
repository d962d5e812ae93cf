//! Turns: limits how much runs at once, and lets clients take turns.
//!
//! A semaphore that serves in order of arrival lets one client with a hundred requests delay all others until it is
//! done. Here the next turn goes to another client, if one waits: round robin among clients, and in order of arrival
//! within a client. Work that several clients wait for gets the best of their positions. Positions are computed when
//! a turn becomes free, so that they reflect the clients that wait then.

use super::audience::{Abandoned, Audience, Client, next_event};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::oneshot;

/// A number of free turns, and the tickets that wait for one.
#[derive(Debug)]
pub struct Turns {
    /// How many turns one client may have at once.
    per_client: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// In order of arrival.
    tickets: Vec<Ticket>,
    /// For each waiting client, the event at which it had its last turn.
    served: HashMap<Client, u64>,
    /// How many turns each client has now.
    held: HashMap<Client, usize>,
}

#[derive(Debug)]
struct Ticket {
    /// The event at which it was drawn.
    drawn: u64,
    audience: Arc<Audience>,
    grant: oneshot::Sender<Turn>,
}

/// A turn. Dropping it gives it back.
#[derive(Debug)]
pub struct Turn {
    /// None if it was already given back.
    turns: Option<Arc<Turns>>,
    /// The client that it counts for.
    client: Client,
}

/// Removes a ticket when its waiter is dropped.
struct Holder<'a>(&'a Turns, u64);

impl Turns {
    /// Turns for `at_once` pieces of work at a time, at least one. One client may have all turns but one, so that
    /// another client need not wait until they end.
    pub fn new(at_once: usize) -> Arc<Self> {
        let at_once = at_once.max(1);
        let (tickets, served, held) = Default::default();
        let state = Mutex::new(State { free: at_once, tickets, served, held });
        Arc::new(Self { per_client: (at_once - 1).max(1), state })
    }

    /// Whether no turn is taken and no ticket waits.
    pub fn is_idle(&self) -> bool {
        let state = self.state();
        state.held.is_empty() && state.tickets.is_empty()
    }

    /// Waits for a turn. Dropping the future gives up the wait and costs no turn.
    ///
    /// # Errors
    /// If the audience is dismissed before its turn.
    pub async fn take(self: &Arc<Self>, audience: &Arc<Audience>) -> Result<Turn, Abandoned> {
        let line = audience.line_up();
        let mut changes = audience.changes();
        let (grant, mut granted) = oneshot::channel();
        let drawn = next_event();
        self.state().tickets.push(Ticket { drawn, audience: Arc::clone(audience), grant });
        let _holder = Holder(self, drawn);
        self.serve();
        loop {
            tokio::select! {
                biased;
                turn = &mut granted => {
                    let turn = turn.expect("self keeps the sender alive");
                    line.step_out()?;
                    return Ok(turn);
                }
                () = audience.dismissed() => return Err(Abandoned),
                // A client that joins may get a turn when earlier ones may not.
                _ = changes.changed() => self.serve(),
            }
        }
    }

    /// Gives free turns to the next tickets.
    fn serve(self: &Arc<Self>) {
        loop {
            let Some((ticket, client)) = self.state().next(self.per_client) else { return };
            let turn = Turn { turns: Some(Arc::clone(self)), client };
            if let Err(mut back) = ticket.grant.send(turn) {
                // The waiter is gone.
                back.turns = None;
                self.state().give_back(client);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding the lock")
    }
}

impl State {
    /// Removes the next ticket and takes a turn for it. Returns it with the client that the turn counts for.
    fn next(&mut self, per_client: usize) -> Option<(Ticket, Client)> {
        if self.free == 0 || self.tickets.is_empty() {
            return None;
        }
        // Each client's first ticket, and since when it has waited for that ticket.
        let mut firsts: HashMap<Client, (u64, usize)> = HashMap::new();
        for (at, ticket) in self.tickets.iter().enumerate() {
            for (client, joined) in ticket.audience.clients() {
                let since = joined.max(ticket.drawn);
                let first = firsts.entry(client).or_insert((since, at));
                *first = (*first).min((since, at));
            }
        }
        self.served.retain(|client, _| firsts.contains_key(client));
        let may = |client: &Client| {
            !client.is_known() || self.held.get(client).is_none_or(|held| *held < per_client)
        };
        let (client, (_, at)) =
            firsts.into_iter().filter(|(client, _)| may(client)).min_by_key(|(client, (since, _))| {
                (self.served.get(client).copied().unwrap_or(*since), *since)
            })?;
        self.free -= 1;
        self.served.insert(client, next_event());
        *self.held.entry(client).or_default() += 1;
        Some((self.tickets.remove(at), client))
    }

    fn give_back(&mut self, client: Client) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(&client) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&client);
            }
        }
    }
}

impl Drop for Holder<'_> {
    fn drop(&mut self) {
        // Dropping a turn takes the lock. The tickets dropped here have no turn, because they were not served.
        self.0.state().tickets.retain(|ticket| ticket.drawn != self.1);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.state().give_back(self.client);
            turns.serve();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::audience::Attendance;
    use super::*;
    use futures::FutureExt;
    use std::net::IpAddr;
    use std::pin::Pin;
    use std::time::Duration;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(3600);

    fn client(last: u8) -> Client {
        Client::at(IpAddr::from([10, 0, 0, last]))
    }

    type Waiter = Pin<Box<dyn Future<Output = Result<Turn, Abandoned>> + Send>>;

    /// A waiter that is already in line.
    fn wait(turns: &Arc<Turns>, audience: &Arc<Audience>) -> Waiter {
        let (turns, audience) = (Arc::clone(turns), Arc::clone(audience));
        let mut waiter: Waiter = Box::pin(async move { turns.take(&audience).await });
        assert!((&mut waiter).now_or_never().is_none(), "nothing is free");
        waiter
    }

    async fn take(turns: &Arc<Turns>, last: u8) -> Turn {
        turns.take(&Audience::of(client(last))).await.expect("it is not dismissed")
    }

    #[tokio::test]
    async fn is_idle_while_nobody_has_a_turn() {
        let turns = Turns::new(2);
        assert!(turns.is_idle());
        let turn = take(&turns, 1).await;
        assert!(!turns.is_idle());
        drop(turn);
        assert!(turns.is_idle());
    }

    /// The order in which all get their turns, one after the other.
    fn order(mut turn: Turn, mut line: Vec<(&'static str, Waiter)>) -> Vec<&'static str> {
        let mut order = Vec::new();
        while !line.is_empty() {
            drop(turn);
            let (at, next) = line
                .iter_mut()
                .enumerate()
                .find_map(|(at, (_, waiter))| waiter.now_or_never().map(|turn| (at, turn)))
                .expect("a waiter is next");
            turn = next.expect("it is not dismissed");
            order.push(line.remove(at).0);
        }
        order
    }

    #[tokio::test]
    async fn clients_take_turns() {
        let turns = Turns::new(1);
        let turn = take(&turns, 1).await;
        let line = [("a1", 1), ("a2", 1), ("a3", 1), ("a4", 1), ("b1", 2), ("b2", 2), ("c1", 3)];
        let line = line.map(|(name, who)| (name, wait(&turns, &Audience::of(client(who)))));
        assert_eq!(order(turn, line.into()), ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
    }

    /// Four builds of one client wait. Another client joins the last of them, and stays or leaves.
    async fn joined(patience: Duration, stays: bool) -> Vec<&'static str> {
        let turns = Turns::new(1);
        let turn = take(&turns, 9).await;
        let builds = ["a1", "a2", "a3", "a4"].map(|name| (name, Audience::new(patience)));
        let _first: Vec<Attendance> =
            builds.iter().filter_map(|(_, audience)| audience.attend(client(1))).collect();
        let line = builds.each_ref().map(|(name, audience)| (*name, wait(&turns, audience)));
        let second = builds[3].1.attend(client(2));
        let second = second.filter(|_| stays);
        let order = order(turn, line.into());
        drop(second);
        order
    }

    #[tokio::test]
    async fn shared_work_has_the_best_place_of_its_clients() {
        assert_eq!(joined(LONG, true).await, ["a1", "a4", "a2", "a3"]);
        // It may come back.
        assert_eq!(joined(LONG, false).await, ["a1", "a4", "a2", "a3"]);
        assert_eq!(joined(Duration::ZERO, false).await, ["a1", "a2", "a3", "a4"]);
    }

    #[tokio::test]
    async fn one_client_leaves_a_turn_for_others() {
        let turns = Turns::new(3);
        let held = (take(&turns, 1).await, take(&turns, 1).await);
        let audience = Audience::new(LONG);
        let _first = audience.attend(client(1)).expect("it is not dismissed");
        let mut third = wait(&turns, &audience);
        let others = take(&turns, 2).await;
        drop(others);
        assert!(
            (&mut third).now_or_never().is_none(),
            "one turn is left for other clients, though none waits"
        );
        // Another client waits for the same work, so it may use that client's turn.
        let _second = audience.attend(client(2)).expect("it is not dismissed");
        drop(third.await.expect("it is not dismissed"));
        drop(held);
        assert!(turns.state().held.is_empty() && turns.state().free == 3);
        // [`Client::NOBODY`] may have all turns.
        let many = Audience::of(Client::NOBODY);
        for turn in [turns.take(&many), turns.take(&many), turns.take(&many)] {
            std::mem::forget(turn.await);
        }
        assert_eq!(turns.state().free, 0);
    }

    #[tokio::test]
    async fn waiters_that_leave_cost_no_turn() {
        let turns = Turns::new(2);
        let (first, second) = (take(&turns, 1).await, take(&turns, 2).await);
        let gone: Vec<_> = (0..100).map(|i| wait(&turns, &Audience::of(client(i)))).collect();
        let stays = wait(&turns, &Audience::of(client(7)));
        drop(gone);
        drop(first);
        let third = stays.await.expect("it is not dismissed");
        // A waiter that was given a turn but was never polled again.
        let unaware = wait(&turns, &Audience::of(client(8)));
        drop(second);
        drop(unaware);
        drop(third);
        let both = (take(&turns, 1).await, take(&turns, 2).await);
        assert_eq!(turns.state().free, 0);
        drop(both);
        assert_eq!(turns.state().free, 2);
        assert!(turns.state().tickets.is_empty());
    }

    #[tokio::test]
    async fn work_without_clients_leaves_the_line() {
        let turns = Turns::new(1);
        let turn = take(&turns, 1).await;
        let audience = Audience::new(Duration::ZERO);
        let attendance = audience.attend(client(2));
        let waiter = wait(&turns, &audience);
        drop(attendance);
        assert_eq!(waiter.await.map(drop), Err(Abandoned));
        drop(turn);
        assert_eq!(turns.state().free, 1);
    }
}
