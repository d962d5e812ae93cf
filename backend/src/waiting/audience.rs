//! An audience is the set of clients that wait for a piece of work. Clients join and leave it.
//!
//! All clients that ask for an image share one build. The place of that build in the queue depends on the clients
//! that ask at the moment, not on the client that asked first. An audience lists those clients, and says whether
//! there are any.

use firn_shared::link::client_network::ClientNetwork;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A client, as far as fairness between clients needs to tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(Option<ClientNetwork>);

impl Client {
    /// No particular client: Firn itself, a person at the command line, or an edge that does not name its client.
    pub const NOBODY: Self = Self(None);

    /// The client at this address.
    pub fn at(address: IpAddr) -> Self {
        Self(Some(ClientNetwork::of(address)))
    }

    /// Whether this stands for one client. [`Self::NOBODY`] may stand for many.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }
}

/// The audience was dismissed: no client asks for the work any more, so it must not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work was dropped before it began, because no client asked for it any more; pull again")]
pub struct Abandoned;

/// Numbers events in the order in which they happen.
pub(crate) fn next_event() -> u64 {
    static EVENTS: AtomicU64 = AtomicU64::new(0);
    EVENTS.fetch_add(1, Ordering::Relaxed)
}

/// The clients that wait for a piece of work.
///
/// A client is a member while one of its requests waits. It stays a member for a while after that, because a client
/// that got a 429 comes back. When all clients have been gone for that long, work that still waits for its turn is
/// dropped. Work that has begun continues.
#[derive(Debug)]
pub struct Audience {
    state: Mutex<State>,
    /// How long a client may be gone and stay a member. None if the members never change.
    patience: Option<Duration>,
    /// Counts changes.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    members: HashMap<Client, Member>,
    /// When the last member left.
    left: Instant,
    /// How many turns this audience waits for at the moment.
    in_line: usize,
    is_dismissed: bool,
}

#[derive(Debug)]
struct Member {
    /// How many requests of this client wait.
    present: usize,
    /// When its last request ended.
    left: Instant,
    /// The event at which the client joined.
    joined: u64,
}

/// One waiting request. After this is dropped, the client stays in the audience for a while.
#[derive(Debug)]
pub struct Attendance {
    audience: Arc<Audience>,
    client: Client,
}

/// The audience waits for a turn as long as this exists.
#[derive(Debug)]
pub(crate) struct InLine<'a>(&'a Audience);

impl Audience {
    /// An empty audience. Clients stay members for `patience` after they have gone.
    pub fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self::with(HashMap::new(), Some(patience)))
    }

    /// An audience whose only member is this client, for ever.
    pub fn of(client: Client) -> Arc<Self> {
        let now = Instant::now();
        let member = Member { present: 1, left: now, joined: next_event() };
        Arc::new(Self::with([(client, member)].into(), None))
    }

    fn with(members: HashMap<Client, Member>, patience: Option<Duration>) -> Self {
        let state = State { members, left: Instant::now(), in_line: 0, is_dismissed: false };
        Self { state: Mutex::new(state), patience, changes: watch::Sender::new(0) }
    }

    /// Adds a request of a client. None if the audience was dismissed.
    pub fn attend(self: &Arc<Self>, client: Client) -> Option<Attendance> {
        {
            let mut state = self.state();
            if state.is_dismissed {
                return None;
            }
            let now = Instant::now();
            self.forget(&mut state, now);
            let member = Member { present: 0, left: now, joined: next_event() };
            state.members.entry(client).or_insert(member).present += 1;
        }
        self.changed();
        Some(Attendance { audience: Arc::clone(self), client })
    }

    /// The members, each with the event at which it joined.
    pub(crate) fn clients(&self) -> Vec<(Client, u64)> {
        let mut state = self.state();
        self.forget(&mut state, Instant::now());
        state.members.iter().map(|(client, member)| (*client, member.joined)).collect()
    }

    /// Since when no request has waited. None if a request waits, or if no work waits for its turn.
    pub(crate) fn unattended_since(&self) -> Option<Instant> {
        let state = self.state();
        (self.patience.is_some() && state.in_line > 0 && !state.is_dismissed && state.is_unattended())
            .then_some(state.left)
    }

    /// Dismisses the audience if no request waits and the work has not begun. Returns whether it did.
    pub(crate) fn dismiss(&self) -> bool {
        if self.unattended_since().is_none() {
            return false;
        }
        {
            let mut state = self.state();
            if state.in_line == 0 || !state.is_unattended() || state.is_dismissed {
                return false;
            }
            state.is_dismissed = true;
        }
        self.changed();
        true
    }

    /// Makes the audience wait for a turn until the result is dropped.
    pub(crate) fn line_up(&self) -> InLine<'_> {
        self.state().in_line += 1;
        InLine(self)
    }

    /// A channel that reports when clients join or leave.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns when the audience is dismissed, either by [`Self::dismiss`] or because all clients have been gone for
    /// too long. Await it only between [`Self::line_up`] and the turn.
    pub(crate) async fn dismissed(&self) {
        let mut changes = self.changes();
        loop {
            let until = {
                let mut state = self.state();
                if state.is_dismissed {
                    return;
                }
                let until = self.patience.filter(|_| state.is_unattended()).map(|p| state.left + p);
                if until.is_some_and(|until| until <= Instant::now()) {
                    state.is_dismissed = true;
                    return;
                }
                until
            };
            let expires = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expires => {}
                // The sender lives as long as the audience.
                _ = changes.changed() => {}
            }
        }
    }

    /// Forgets clients that have been gone for too long.
    fn forget(&self, state: &mut State, now: Instant) {
        if let Some(patience) = self.patience {
            state.members.retain(|_, member| member.present > 0 || member.left + patience > now);
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding the lock")
    }
}

impl State {
    fn is_unattended(&self) -> bool {
        self.members.values().all(|member| member.present == 0)
    }
}

impl InLine<'_> {
    /// Ends the wait because the turn has come.
    ///
    /// # Errors
    /// If the audience was dismissed before.
    pub(crate) fn step_out(self) -> Result<(), Abandoned> {
        let mut state = self.0.state();
        state.in_line -= 1;
        let is_dismissed = state.is_dismissed;
        drop(state);
        std::mem::forget(self);
        if is_dismissed { Err(Abandoned) } else { Ok(()) }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.state().in_line -= 1;
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        {
            let mut state = self.audience.state();
            let now = Instant::now();
            state.left = now;
            if let Some(member) = state.members.get_mut(&self.client) {
                member.present -= 1;
                member.left = now;
            }
        }
        self.audience.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(3600);

    fn client(last: u8) -> Client {
        Client::at(IpAddr::from([10, 0, 0, last]))
    }

    fn members(audience: &Audience) -> Vec<Client> {
        let mut clients = audience.clients();
        clients.sort_by_key(|(_, joined)| *joined);
        clients.into_iter().map(|(client, _)| client).collect()
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        let at = |text: &str| Client::at(text.parse().expect("an address"));
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
        assert!(!Client::NOBODY.is_known() && at("10.0.0.1").is_known());
    }

    #[tokio::test]
    async fn clients_that_may_come_again_stay_in_the_audience() {
        let audience = Audience::new(LONG);
        let first = audience.attend(client(1)).expect("it is not dismissed");
        let second = audience.attend(client(2)).expect("it is not dismissed");
        drop(first);
        assert_eq!(members(&audience), [client(1), client(2)]);
        let _line = audience.line_up();
        drop(second);
        assert!(audience.dismissed().now_or_never().is_none(), "they have just gone");
        assert!(audience.attend(client(1)).is_some());
    }

    #[tokio::test]
    async fn an_audience_without_clients_is_dismissed() {
        let audience = Audience::new(Duration::ZERO);
        let stays = audience.attend(client(1)).expect("it is not dismissed");
        drop(audience.attend(client(2)));
        assert_eq!(members(&audience), [client(1)]);
        let line = audience.line_up();
        assert!(audience.dismissed().now_or_never().is_none(), "one waits");
        drop(stays);
        audience.dismissed().await;
        assert!(audience.attend(client(3)).is_none(), "it is too late to join");
        assert_eq!(line.step_out(), Err(Abandoned));
    }

    #[test]
    fn work_that_has_begun_cannot_be_dismissed() {
        let audience = Audience::new(LONG);
        let waits = audience.attend(client(1)).expect("it is not dismissed");
        let line = audience.line_up();
        assert!(!audience.dismiss(), "one waits");
        drop(waits);
        assert_eq!(line.step_out(), Ok(()));
        assert!(!audience.dismiss(), "it has begun");
        let _line = audience.line_up();
        assert!(audience.dismiss());
        assert!(!audience.dismiss(), "once is enough");
        let firn = Audience::of(Client::NOBODY);
        let _line = firn.line_up();
        assert!(!firn.dismiss(), "it waits for ever");
    }
}
