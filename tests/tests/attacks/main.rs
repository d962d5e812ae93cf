//! What strangers may try on a running Firn, one file a heading: who attacks, what it costs them, and that others are
//! served meanwhile. Real processes and real Nix.

mod evaluations;
mod identity;
mod leases;
mod popular_images;
mod queue;
mod refs;
mod secrets;
mod slow_clients;
