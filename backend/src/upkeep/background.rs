//! What a server does for its store in the background: it writes pulls, and collects garbage if there is a budget.

use super::collect;
use crate::{config::RetentionPolicy, error_chain::chain, store::Store};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How often pulls are written, unless a quarter of the grace period is shorter.
const PULLS: Duration = Duration::from_secs(10);
/// How often garbage is collected if no write is refused.
const COLLECTIONS: Duration = Duration::from_secs(600);
/// The shortest time between two collections.
const PAUSE: Duration = Duration::from_secs(1);

/// Maintains the store until the server ends.
pub async fn look_after(store: Store, policy: RetentionPolicy, mut ending: watch::Receiver<bool>) {
    // Blobs are condemned by one collection and deleted by a later one, so collecting twice in a grace period is
    // useful.
    let interval = (policy.grace / 2).clamp(PAUSE, COLLECTIONS);
    let pulls = (policy.grace / 4).clamp(PAUSE, PULLS);
    let mut next_collection = Instant::now() + interval;
    let mut next_pulls = Instant::now() + pulls;
    loop {
        let collects = policy.budget.is_some();
        tokio::select! {
            () = told_to_end(&mut ending) => break,
            () = sleep_until(next_pulls) => {
                write_pulls(&store).await;
                next_pulls = Instant::now() + pulls;
            }
            () = sleep_until(next_collection), if collects => {
                collect_garbage(&store, &policy).await;
                next_collection = Instant::now() + interval;
            }
            () = store.budget_spent(), if collects => {
                let soon = Instant::now() + PAUSE;
                next_collection = next_collection.min(soon);
                // Several refused writes are one reason to collect.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    write_pulls(&store).await;
}

async fn told_to_end(ending: &mut watch::Receiver<bool>) {
    // An error means that the server is gone. End in that case too.
    let _ = ending.wait_for(|ending| *ending).await;
}

async fn write_pulls(store: &Store) {
    if let Err(error) = store.write_pulls().await {
        tracing::warn!(error = %chain(&error), "cannot write pulls");
    }
}

async fn collect_garbage(store: &Store, policy: &RetentionPolicy) {
    match collect(store, policy, false).await {
        Ok(Some(done)) if done.images.is_empty() && done.blobs == 0 => {}
        Ok(Some(done)) => tracing::info!(
            images = done.images.len(),
            blobs = done.blobs,
            freed_bytes = done.freed_bytes,
            used_bytes = done.used_bytes,
            "garbage collected"
        ),
        Ok(None) => tracing::debug!("another process collects garbage"),
        Err(error) => tracing::warn!(error = %chain(&error), "garbage not collected"),
    }
}
