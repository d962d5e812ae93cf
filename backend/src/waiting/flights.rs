//! Single flight: of all callers that ask for the same thing at the same time, one does the work and all get the
//! result.

use firn_shared::cache_key::CacheKey;
use futures::future::{BoxFuture, FutureExt, Shared};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};

/// Work under way. Any number of callers may wait for it, and dropping it does not stop the work.
pub type Flight<T> = Shared<BoxFuture<'static, T>>;

type InFlight<T, A> = Arc<Mutex<HashMap<CacheKey, (Flight<T>, A)>>>;

/// The work under way by key, each with a note for callers that join.
pub struct Flights<T, A = ()> {
    in_flight: InFlight<T, A>,
}

impl<T, A> Default for Flights<T, A> {
    fn default() -> Self {
        Self { in_flight: Arc::default() }
    }
}

impl<T, A> fmt::Debug for Flights<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

/// Removes a flight from the map when it ends, even by a panic.
struct Landing<T, A>(InFlight<T, A>, CacheKey);

impl<T, A> Drop for Landing<T, A> {
    fn drop(&mut self) {
        self.0.lock().expect("nothing panics while holding the lock").remove(&self.1);
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// Joins the flight of this key, or starts it in a task of its own.
    ///
    /// # Panics
    /// If the work panics, every caller that waits for it panics too.
    pub fn join<F>(&self, key: CacheKey, start: impl FnOnce() -> F) -> Flight<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let Ok((flight, ())) = self.join_or(key, || Ok::<_, std::convert::Infallible>(((), start())));
        flight
    }
}

impl<T: Clone + Send + Sync + 'static, A: Clone + Send + 'static> Flights<T, A> {
    /// The flight of this key, if there is one.
    pub fn get(&self, key: &CacheKey) -> Option<(Flight<T>, A)> {
        self.in_flight.lock().expect("nothing panics while holding the lock").get(key).cloned()
    }

    /// Joins the flight of this key, or starts it if there is none.
    ///
    /// # Errors
    /// The error of `start`. Joining an existing flight never fails.
    pub fn join_or<F, E>(
        &self,
        key: CacheKey,
        start: impl FnOnce() -> Result<(A, F), E>,
    ) -> Result<(Flight<T>, A), E>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut in_flight = self.in_flight.lock().expect("nothing panics while holding the lock");
        if let Some(known) = in_flight.get(&key) {
            return Ok(known.clone());
        }
        let (about, work) = start()?;
        let flights = Arc::clone(&self.in_flight);
        let task = tokio::spawn(async move {
            // Created inside the task: a runtime that ends drops the task at once, while the lock is held.
            let _landing = Landing(flights, key);
            work.await
        });
        let flight = task.map(|result| result.expect("a build does not panic")).boxed().shared();
        in_flight.insert(key, (flight.clone(), about.clone()));
        Ok((flight, about))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    fn key(name: &str) -> CacheKey {
        CacheKey::builder(name).build()
    }

    #[tokio::test]
    async fn many_callers_share_one_flight_that_none_of_them_can_stop() {
        let flights: Flights<_> = Flights::default();
        let (gate, started) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let join = || {
            let (gate, started) = (Arc::clone(&gate), Arc::clone(&started));
            flights.join(key("a"), move || async move {
                started.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                42
            })
        };
        let all: Vec<_> = (0..200).map(|_| join()).collect();
        drop(join());
        gate.notify_one();
        assert!(futures::future::join_all(all).await.iter().all(|result| *result == 42));
        assert_eq!(started.load(Ordering::SeqCst), 1);
        // Once it has landed, the next caller starts the work again.
        gate.notify_one();
        assert_eq!(join().await, 42);
        assert_eq!(started.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_refusal_starts_nothing_and_stops_nobody() {
        let flights = Flights::default();
        let refuse = || Err::<(&str, std::future::Pending<u8>), _>("full");
        assert_eq!(flights.join_or(key("a"), refuse).map(drop), Err("full"));
        assert!(flights.get(&key("a")).is_none());
        assert!(flights.join_or(key("a"), || Ok::<_, ()>(("a", std::future::pending()))).is_ok());
        let (_, about) = flights.join_or(key("a"), refuse).expect("joining is never refused");
        assert_eq!((about, flights.get(&key("a")).map(|(_, about)| about)), ("a", Some("a")));
    }

    #[test]
    fn no_work_begins_when_the_runtime_ends() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
        let (ended, end) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            while !tokio::spawn(std::future::pending::<()>()).is_finished() {
                std::thread::yield_now();
            }
            drop(<Flights<_>>::default().join(key("a"), || async { 1 }));
            ended.send(()).expect("the test waits");
        });
        runtime.shutdown_background();
        end.recv_timeout(std::time::Duration::from_secs(10)).expect("it does not wait for itself");
    }

    #[tokio::test]
    async fn different_keys_do_not_wait_for_each_other() {
        let flights: Flights<_> = Flights::default();
        let stuck = flights.join(key("a"), std::future::pending::<u8>);
        assert_eq!(flights.join(key("b"), || async { 1 }).await, 1);
        drop(stuck);
    }
}
