//! Attacks on a running Firn, one file per topic: who attacks, what it costs the attacker, and that others are still
//! served. With real processes and real Nix.

mod evaluations;
mod forged;
mod identity;
mod leases;
mod popular_images;
mod queue;
mod refs;
mod secrets;
mod slow_clients;
