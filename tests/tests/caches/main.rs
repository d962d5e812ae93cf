//! Images out of binary caches: real nginx, real caches of the bundled set, and Nix stores that are empty.

mod digests;
mod evaluation;
mod faults;
mod missing;
mod no_store;
mod platforms;
mod private;
mod progress;
mod sharing;
mod trust;

use firn_tests::{
    backend::{Backend, Starting},
    empty_store,
    image::Image,
    package_set,
};
use std::sync::OnceLock;

/// A backend on the bundled package set whose Nix store is empty, and which builds nothing. It has these caches with
/// these keys.
fn backend(caches: &[&str], keys: &[&str]) -> Starting {
    with_caches(Backend::serving(package_set::bundled()), caches, keys)
}

/// Gives a backend an empty Nix store and these caches, and lets it build nothing.
fn with_caches(backend: Starting, caches: &[&str], keys: &[&str]) -> Starting {
    backend
        .within(&empty_store::WITHIN)
        .env("FIRN_CACHES", &caches.join(" "))
        .env("FIRN_CACHE_KEYS", &keys.join(" "))
        .env("FIRN_BUILD", "never")
}

/// The store paths that a backend's own Nix store has.
fn stored(backend: &Backend) -> Vec<String> {
    empty_store::names(&empty_store::of_process(backend.process()))
}

/// A backend on the bundled package set that has everything in the machine's Nix store, and no cache.
fn from_store() -> &'static Backend {
    static BACKEND: OnceLock<Backend> = OnceLock::new();
    BACKEND.get_or_init(Backend::start)
}

/// Fails unless the image, with all its layers, is the one that is made from the Nix store.
fn assert_right(backend: &Backend, name: &str) {
    let image = Image::pull(&backend.registry(), name);
    image.layers(&backend.registry());
    assert_eq!(image.digests(), Image::pull(&from_store().registry(), name).digests(), "{name}");
}
