use super::*;
use crate::store::conformance::{Subject, subjects};
use futures::future::{join_all, pending};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

const HOUR: Duration = Duration::from_secs(3600);

async fn lease(store: &Store, length: Duration) -> Option<Lease> {
    store.lease(length).await.expect("the store works")
}

/// Waits until the lease is free, and takes it.
async fn next_lease(store: &Store, length: Duration) -> Lease {
    loop {
        if let Some(lease) = lease(store, length).await {
            return lease;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Holders end the lease or die. There is never more than one holder.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_processes_gets_the_lease() {
    const TASKS: usize = 8;
    const TERMS: usize = 24;
    const DEATHS: [usize; 2] = [7, 15];
    let races = subjects().into_iter().map(|subject| async move {
        let Subject { store, url, dir: _dir } = subject;
        let (holders, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let terms = std::sync::Mutex::new(std::collections::BTreeSet::new());
        let tasks = (0..TASKS).map(|_| async {
            while held.load(Ordering::SeqCst) < TERMS {
                // Longer than any task holds it, so that it need not be renewed.
                let Some(lease) = lease(&store, Duration::from_secs(6)).await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "{url}: another task holds it");
                assert!(terms.lock().expect("unbroken").insert(lease.term()), "{url}: a term of two holders");
                // Give other tasks time to take it wrongly.
                for _ in 0..3 {
                    store.now_ms().await.expect("the store works");
                    tokio::task::yield_now().await;
                }
                assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1, "{url}: another task holds it");
                if DEATHS.contains(&held.fetch_add(1, Ordering::SeqCst)) {
                    drop(lease);
                } else {
                    lease.hold(async {}).await.expect("given up");
                }
            }
        });
        join_all(tasks).await;
        // At most the latest term, and one that was written after it.
        assert!(store.terms().await.expect("the store works").len() <= 2, "{url}");
    });
    join_all(races).await;
}

/// If many processes see that a holder has died, one takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_process_takes_over_an_expired_lease() {
    for Subject { store, url, .. } in subjects() {
        for _ in 0..5 {
            drop(next_lease(&store, Duration::ZERO).await);
            let latest = store.terms().await.expect("the store works").pop().expect("a term");
            while store.term_state(latest).await.expect("the store works") != TermState::Free {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let tries = (0..8).map(|_| {
                let store = store.clone();
                tokio::spawn(async move { lease(&store, HOUR).await })
            });
            let mut held: Vec<_> =
                join_all(tries).await.into_iter().filter_map(|tried| tried.expect("no panic")).collect();
            let last = held.pop().expect("one takes over");
            assert!(held.is_empty(), "{url}: {held:?} and {last:?}");
            last.end().await.expect("given up");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn long_work_renews_the_lease() {
    const LENGTH: Duration = Duration::from_secs(4);
    let all = subjects().into_iter().map(|subject| async move {
        let Subject { store, url, dir: _dir } = subject;
        let held = lease(&store, LENGTH).await.expect("nobody else");
        let first = held.term();
        let others = async {
            let started = Instant::now();
            while started.elapsed() < LENGTH * 2 {
                assert!(lease(&store, LENGTH).await.is_none(), "{url}: it is held");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        held.hold(others).await.expect("it is renewed");
        assert!(lease(&store, LENGTH).await.expect("it is given up").term() > first + 1, "{url}");
    });
    join_all(all).await;
}

/// A holder that was replaced cannot end another holder's term.
#[tokio::test]
async fn a_replaced_holder_cannot_end_the_new_term() {
    for Subject { store, url, .. } in subjects() {
        let first = lease(&store, Duration::ZERO).await.expect("nobody else");
        let second = next_lease(&store, HOUR).await;
        first.end().await.expect("the store works");
        assert!(lease(&store, HOUR).await.is_none(), "{url}: the second holder has it");
        second.end().await.expect("given up");
        assert!(lease(&store, HOUR).await.is_some(), "{url}");
    }
}

#[tokio::test]
async fn a_term_with_an_old_number_has_no_effect() {
    for Subject { store, url, .. } in subjects() {
        for _ in 0..3 {
            next_lease(&store, HOUR).await.end().await.expect("given up");
        }
        // Its number was free when it looked, and is free again now.
        assert!(!store.begin(2, "slow", HOUR).await.expect("the store works"), "{url}");
        let lease = lease(&store, HOUR).await.expect("the slow one's term has no effect");
        assert_eq!(lease.term(), 4, "{url}");
    }
}

/// A client that retries is told that its object exists already.
#[tokio::test]
async fn a_retry_that_finds_its_own_term_succeeds() {
    for Subject { store, url, .. } in subjects() {
        store.create(&location(1), Term::of("it", HOUR).bytes()).await.expect("written");
        assert!(store.begin(1, "it", HOUR).await.expect("the store works"), "{url}");
        assert!(!store.begin(1, "another", HOUR).await.expect("the store works"), "{url}");
    }
}

/// The holder stops, and no other process takes over before its term would have expired.
#[tokio::test]
async fn a_term_from_the_future_stops_its_holder() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}", dir.path().join("storage").display());
    let store = Store::open(&url, &dir.path().join("staging")).expect("a store");
    let length = Duration::from_secs(2);
    let held = lease(&store, length).await.expect("nobody else");
    let file = dir.path().join("storage").join(location(held.term()).as_ref());
    let file = std::fs::File::options().write(true).open(file).expect("the term");
    file.set_modified(SystemTime::now() + 24 * HOUR).expect("the time can be set");
    assert!(lease(&store, length).await.is_none());
    let lost = held.hold(pending::<()>()).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    next_lease(&store, length).await.end().await.expect("given up");
}

/// A holder that cannot reach the store stops before others take over.
#[tokio::test]
async fn a_holder_that_cannot_renew_stops() {
    let dir = tempfile::tempdir().expect("a directory");
    let storage = dir.path().join("storage");
    let store =
        Store::open(&format!("file://{}", storage.display()), &dir.path().join("staging")).expect("a store");
    let held = lease(&store, Duration::from_secs(2)).await.expect("nobody else");
    std::fs::remove_dir_all(storage.join("upkeep")).expect("removed");
    std::fs::write(storage.join("upkeep"), "in the way").expect("written");
    let lost = held.hold(pending::<()>()).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
}

#[tokio::test]
async fn an_unreadable_term_expires() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}", dir.path().join("storage").display());
    let store = Store::open(&url, &dir.path().join("staging")).expect("a store");
    store.put_unbounded(&location(7), b"garbage".to_vec()).await.expect("written");
    assert!(lease(&store, HOUR).await.is_none());
    let file =
        std::fs::File::options().write(true).open(dir.path().join("storage").join(location(7).as_ref()));
    file.expect("the term").set_modified(SystemTime::now() - 2 * HOUR).expect("the time can be set");
    assert_eq!(lease(&store, HOUR).await.expect("it has passed").term(), 8);
}
