//! Paths that no cache has: Nix builds just those, if it may.

use crate::{backend, from_store, stored, with_caches};
use firn_tests::{
    backend::{Backend, Starting},
    binary_cache::{Cache, CacheDir, Compression},
    gates::Gates,
    image::Image,
    nix, package_set,
};
use std::collections::BTreeSet;

/// A backend that may build what no cache has.
fn building(caches: &[&str], keys: &[&str]) -> Starting {
    backend(caches, keys).env("FIRN_BUILD", "missing")
}

/// The output of a package of the bundled set.
fn package(name: &str) -> String {
    nix::outputs(package_set::bundled(), &[name])[0][0].clone()
}

fn base_name(path: &str) -> String {
    path.trim_start_matches("/nix/store/").to_owned()
}

#[test]
fn only_what_no_cache_has_is_built() {
    let bundled = CacheDir::bundled(Compression::Zstd);
    let dir = CacheDir::copy_of(&bundled);
    let (built, chained) = (package("_1password"), package("nested.camelCase"));
    dir.forget(&built);
    dir.forget(&chained);
    let cache = Cache::serve(&dir);
    let backend = building(&[&cache.url()], &[cache.key()]).start();
    let image = Image::pull(&backend.registry(), "1password/nested.camelcase/git");
    image.layers(&backend.registry());
    let expect = Image::pull(&from_store().registry(), "1password/nested.camelcase/git");
    assert_eq!(image.digests(), expect.digests());
    let stored = stored(&backend);
    let outputs: BTreeSet<_> = stored.iter().filter(|name| !name.ends_with(".drv")).cloned().collect();
    let expect: BTreeSet<_> = [&built, &chained].map(|path| base_name(path)).into();
    assert_eq!(outputs, expect, "only the two paths are in the store");
    // Everything else came out of the cache.
    let git: BTreeSet<String> =
        nix::closure(&nix::build(package_set::bundled(), &["git", "cacert", "iana-etc"]));
    let fetched: BTreeSet<String> = cache.nars().into_iter().map(|request| request.path).collect();
    assert_eq!(fetched, git.iter().map(|path| format!("/{}", dir.field(path, "URL"))).collect());
}

#[test]
fn a_server_that_builds_nothing_says_so() {
    let bundled = CacheDir::bundled(Compression::Zstd);
    let dir = CacheDir::copy_of(&bundled);
    dir.forget(&package("_1password"));
    let cache = Cache::serve(&dir);
    let backend = backend(&[&cache.url()], &[cache.key()]).start();
    let answer = backend.registry().settled("1password", "latest");
    let (code, message) = answer.error();
    assert_eq!((answer.status, code.as_str()), (404, "MANIFEST_UNKNOWN"), "{message}");
    assert!(message.contains("1password") && message.contains("builds nothing"), "{message}");
    assert_eq!(stored(&backend), Vec::<String>::new());
    // What the cache has is served as before.
    Image::pull(&backend.registry(), "hello");
}

#[test]
fn an_image_may_need_only_so_many_builds() {
    let seed = u64::from(std::process::id());
    let nothing = CacheDir::empty();
    let start = |most: &[(&str, &str)]| {
        // An empty cache: everything must be built. `p0` needs three derivations: its own, its part's, the base's.
        let empty = Cache::serve(&nothing);
        let backend = Backend::serving_expression(&package_set::many(10, seed));
        let backend = with_caches(backend, &[&empty.url()], &[empty.key()]).env("FIRN_BUILD", "missing");
        let backend = most.iter().fold(backend, |backend, (name, value)| backend.env(name, value));
        (backend.start(), empty)
    };
    let (backend, _cache) = start(&[("FIRN_MAX_DERIVATIONS", "5")]);
    // Nine derivations: four packages and their parts, and the base.
    let answer = backend.registry().settled("p0/p1/p2/p3", "latest");
    let (code, message) = answer.error();
    assert_eq!((answer.status, code.as_str()), (404, "MANIFEST_UNKNOWN"), "{message}");
    let expect = "needs 9 derivations built, and this registry builds at most 5";
    assert!(message.contains(expect), "{message}");
    assert_eq!(
        stored(&backend).iter().filter(|name| !name.ends_with(".drv")).count(),
        0,
        "nothing was begun"
    );
    // Three are fine. Then five more are missing, and that is fine too.
    Image::pull(&backend.registry(), "p0");
    Image::pull(&backend.registry(), "p0/p1/p2");
    drop(backend);
    // By default it is 50.
    let (backend, _cache) = start(&[]);
    Image::pull(&backend.registry(), "p0/p1/p2/p3");
}

/// Builds have a lane of their own: images out of a cache do not wait for them.
#[test]
fn downloads_do_not_wait_for_builds() {
    let gates = Gates::new();
    let cache = Cache::bundled(Compression::Zstd);
    let backend = Backend::serving_expression(&gates.package_set());
    let backend = with_caches(backend, &[&cache.url()], &[cache.key()])
        .env("FIRN_BUILD", "missing")
        .args(&["--max-realisations", "1", "--wait", "1"])
        .start();
    let registry = backend.registry();
    let page = registry.begin("gated-1");
    registry.begin("gated-2");
    // The builder of one of them has begun and waits for the gate; the other waits for its turn.
    assert_eq!(Image::pull(&registry, "hello").name, "hello");
    assert_eq!(backend.waiting(), 2, "{}", registry.get(&page).text());
    gates.open_all("gated-1");
    gates.open_all("gated-2");
    Image::pull(&registry, "gated-1");
    Image::pull(&registry, "gated-2");
}
