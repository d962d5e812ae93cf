//! Firn from outside: real Nix, real clients, real containers. One file per capability.
//!
//! A test starts the servers that it needs. The ones below are shared by tests that only read, because starting and
//! filling them takes seconds.

mod bad_input;
mod buckets;
mod build_pages;
mod building;
mod clients;
mod commands;
mod composition;
mod contents;
mod derived;
mod documents;
mod edge;
mod failing;
mod flakes;
mod forest;
mod hard_links;
mod names;
mod nix_use;
mod outputs;
mod packing;
mod popularity;
mod private_sources;
mod readers;
mod reasons;
mod rebuilt;
mod registry_api;
mod reproducible;
mod running;
mod sources;
mod starting;
mod upgrading;

use firn_tests::{backend::Backend, dockerd::Dockerd};
use std::sync::OnceLock;

/// A backend on the bundled package set with default options.
fn backend() -> &'static Backend {
    static BACKEND: OnceLock<Backend> = OnceLock::new();
    BACKEND.get_or_init(Backend::start)
}

/// A Docker daemon.
fn dockerd() -> &'static Dockerd {
    static DOCKERD: OnceLock<Dockerd> = OnceLock::new();
    DOCKERD.get_or_init(Dockerd::start)
}
