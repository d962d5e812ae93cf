//! What is fetched: what was never packed, once, and nothing else.

use crate::{backend, stored};
use firn_tests::{
    backend::Backend,
    binary_cache::{Cache, CacheDir, Compression, Request},
    image::Image,
    nix, package_set,
};
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;

/// The store paths of these packages' closures, and of the certificates and services that every image has.
fn closure(packages: &[&str]) -> BTreeSet<String> {
    let everywhere = ["cacert", "iana-etc"];
    let packages: Vec<&str> = packages.iter().copied().chain(everywhere).collect();
    nix::closure(&nix::build(package_set::bundled(), &packages))
}

/// The paths of the requests for these store paths' contents.
fn nars_of(dir: &CacheDir, paths: &BTreeSet<String>) -> BTreeSet<String> {
    paths.iter().map(|path| format!("/{}", dir.field(path, "URL"))).collect()
}

/// Fails if anything was requested twice. Returns the paths.
fn once(requests: &[Request]) -> BTreeSet<String> {
    let mut times = BTreeMap::<&str, usize>::new();
    for request in requests {
        *times.entry(&request.path).or_default() += 1;
    }
    let again: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(again.is_empty(), "requested again: {again:?}");
    requests.iter().map(|request| request.path.clone()).collect()
}

#[test]
fn a_second_image_fetches_only_what_was_never_packed() {
    let dir = CacheDir::bundled(Compression::Zstd);
    let cache = Cache::serve(&dir);
    let backend = backend(&[&cache.url()], &[cache.key()]).start();
    Image::pull(&backend.registry(), "git").layers(&backend.registry());
    let first = closure(&["git"]);
    assert_eq!(once(&cache.nars()), nars_of(&dir, &first), "each path of the closure, once");

    // Nearly all of its paths are in the first image's layers.
    Image::pull(&backend.registry(), "git/curl/hello").layers(&backend.registry());
    let second = closure(&["git", "curl", "hello"]);
    assert!(second.len() > first.len());
    let both = once(&cache.nars());
    assert_eq!(both, nars_of(&dir, &first.union(&second).cloned().collect()), "the others, once");
    let narinfos: Vec<_> =
        cache.requests().into_iter().filter(|request| request.path.ends_with(".narinfo")).collect();
    once(&narinfos);
    assert_eq!(stored(&backend), Vec::<String>::new());
}

#[test]
fn a_known_image_needs_neither_nix_nor_a_cache() {
    let data = TempDir::new().expect("a temporary directory");
    let cache = Cache::bundled(Compression::Zstd);
    let start = || backend(&[&cache.url()], &[cache.key()]).data(data.path()).start();
    let images = ["jq", "hello"];
    let first = {
        let backend = start();
        let first = images.map(|name| Image::pull(&backend.registry(), name).digests());
        let (requests, processes) = (cache.requests().len(), backend.nix_processes());
        assert!(requests > 0 && processes > 0, "the counters count");
        assert_eq!(images.map(|name| Image::pull(&backend.registry(), name).digests()), first);
        // Another combination of the same packages.
        Image::pull(&backend.registry(), "hello/jq");
        assert_eq!((cache.requests().len(), backend.nix_processes()), (requests, processes));
        first
    };
    let requests = cache.requests().len();
    let backend = start();
    assert_eq!(images.map(|name| Image::pull(&backend.registry(), name).digests()), first);
    assert_eq!(backend.nix_processes(), 0);
    assert_eq!(cache.requests()[requests..], [], "nothing is requested after a restart");
}

/// Images of one server that need the same paths at the same time.
#[test]
fn what_two_images_need_is_fetched_once() {
    let cache = Cache::bundled(Compression::Zstd);
    let backend = backend(&[&cache.url()], &[cache.key()]).start();
    let pull = |name: &'static str| Image::pull(&backend.registry(), name).layers(&backend.registry());
    std::thread::scope(|scope| {
        let pulls = ["git", "git/curl", "curl/jq", "jq/git"].map(|name| scope.spawn(move || pull(name)));
        for pull in pulls {
            pull.join().expect("a pull");
        }
    });
    once(&cache.nars());
}

/// A cache may be made anew with another compression: what is recorded of a path is what it is, not where.
#[test]
fn a_cache_may_change_how_it_stores_a_path() {
    let data = TempDir::new().expect("a temporary directory");
    let outputs = nix::build(package_set::bundled(), &["jq", "hello", "cacert", "iana-etc"]);
    let expect = Image::pull(&crate::from_store().registry(), "hello/jq").digests();
    let compressions = [Compression::None, Compression::Xz];
    let caches = compressions.map(|compression| CacheDir::new(compression, "firn-test", &outputs));
    let keys = caches.each_ref().map(CacheDir::key);
    let served = CacheDir::copy_of(&caches[0]);
    let cache = Cache::serve(&served);
    let start = |compression: &str| -> Backend {
        backend(&[&cache.url()], &keys).data(data.path()).args(&["--compression", compression]).start()
    };
    Image::pull(&start("gzip:2").registry(), "hello/jq");
    std::fs::remove_dir_all(served.path()).expect("removed");
    std::os::unix::fs::symlink(caches[1].path(), served.path()).expect("a link");
    // Everything is packed again, from files that have other names now.
    let backend = start("gzip:1");
    Image::pull(&backend.registry(), "hello/jq").layers(&backend.registry());
    assert!(cache.nars().iter().any(|request| request.path.ends_with(".xz")), "{:?}", cache.nars());
    drop(backend);
    assert_eq!(Image::pull(&start("gzip:2").registry(), "hello/jq").digests(), expect);
}
