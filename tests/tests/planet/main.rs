//! The Worker on a planet as strict as Cloudflare's: what holds under its rules, and what a pull costs.

mod bills;
mod blobs;
mod composing;
mod flights;
mod front;
mod private;
mod quotas;
mod rules;
mod scale;
mod tags;
mod workers_cache;

use firn_tests::edge::planet::Bill;

/// The bill of a request that the Worker answers without anything else that is billed.
fn request() -> Bill {
    Bill { worker_requests: 1, worker_runs: 1, ..Bill::default() }
}
