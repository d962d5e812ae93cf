//! What is fetched: what was never packed, once, and nothing else.

use crate::{backend, stored};
use firn_tests::{
    backend::Backend,
    binary_cache::{Cache, CacheDir, Compression, Request},
    image::Image,
    layer::Layer,
    nix, package_set,
};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use tempfile::TempDir;

/// How often each path of the cache is expected to be asked for its contents: once for each layer that has it. A store
/// path can be in several layers, but each layer is packed once.
fn expected(dir: &CacheDir, backend: &Backend, images: &[&Image]) -> BTreeMap<String, usize> {
    let mut seen = HashSet::new();
    let mut expected = BTreeMap::new();
    for image in images {
        let layers = image.layers(&backend.registry());
        for layer in layers.iter().filter(|layer| seen.insert(layer.digest.clone())) {
            for path in store_paths(layer) {
                *expected.entry(format!("/{}", dir.field(&path, "URL"))).or_default() += 1;
            }
        }
    }
    expected
}

/// The store paths in a layer.
fn store_paths(layer: &Layer) -> BTreeSet<String> {
    let path = |path: &[u8]| {
        let path = String::from_utf8_lossy(path).trim_start_matches('/').to_owned();
        let name = path.strip_prefix("nix/store/")?.split('/').next()?;
        Some(format!("/nix/store/{name}"))
    };
    layer.entries.iter().filter_map(|entry| path(&entry.path)).collect()
}

/// How often each path was asked for.
fn counted(requests: &[Request]) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for request in requests {
        assert!(request.status == 200 && request.range.is_none(), "{request:?}");
        *times.entry(request.path.clone()).or_default() += 1;
    }
    times
}

#[test]
fn a_second_image_fetches_only_what_was_never_packed() {
    let dir = CacheDir::bundled(Compression::Zstd);
    let cache = Cache::serve(&dir);
    let backend = backend(&[&cache.url()], &[cache.key()]).start();
    let first = Image::pull(&backend.registry(), "git");
    let fetched = counted(&cache.nars());
    assert_eq!(fetched, expected(&dir, &backend, &[&first]));
    let wanted = nix::closure(&nix::build(package_set::bundled(), &["git", "cacert", "iana-etc"]));
    assert_eq!(fetched.len(), wanted.len(), "all of its store paths");

    // Nearly all of its paths are in the first image's layers.
    let second = Image::pull(&backend.registry(), "git/jq/hello");
    let both = expected(&dir, &backend, &[&first, &second]);
    assert_eq!(counted(&cache.nars()), both);
    assert!(both.len() > fetched.len() && both.values().sum::<usize>() < 2 * fetched.len());
    let narinfos: Vec<_> =
        cache.requests().into_iter().filter(|request| request.path.ends_with(".narinfo")).collect();
    assert!(counted(&narinfos).values().all(|times| *times == 1), "{narinfos:#?}");
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

/// Images of one server that need the same layers at the same time.
#[test]
fn what_two_images_need_is_fetched_once() {
    let dir = CacheDir::bundled(Compression::Zstd);
    let cache = Cache::serve(&dir);
    let backend = backend(&[&cache.url()], &[cache.key()]).start();
    let images = std::thread::scope(|scope| {
        let pulls = ["git", "git/jq", "jq/hello", "hello/git"];
        let pulls = pulls.map(|name| scope.spawn(|| Image::pull(&backend.registry(), name)));
        pulls.map(|pull| pull.join().expect("a pull"))
    });
    assert_eq!(counted(&cache.nars()), expected(&dir, &backend, &images.each_ref()));
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
