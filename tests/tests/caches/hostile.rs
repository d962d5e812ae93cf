//! Caches that work against the registry or against each other, and what of it outlives a restart.

use crate::{backend, faults::alter, from_store};
use firn_tests::{
    binary_cache::{Asked, Cache, CacheDir, Compression, FaultyCache, Reaction},
    image::Image,
    nix, package_set,
};
use std::fs;
use tempfile::TempDir;

fn package(name: &str) -> String {
    nix::outputs(package_set::bundled(), &[name])[0][0].clone()
}

fn nars(reaction: Reaction) -> impl Fn(&Asked) -> Reaction + Send {
    move |asked| if asked.is_nar() { reaction.clone() } else { Reaction::Pass }
}

/// The first cache lies about every path of a layer of many; the second one is honest.
#[test]
fn a_cache_that_always_lies_defeats_no_honest_one() {
    let liar = FaultyCache::before(Cache::bundled(Compression::Zstd));
    let honest = Cache::bundled(Compression::Xz);
    let dir = CacheDir::bundled(Compression::Zstd);
    liar.behave(alter(&dir, |nar| {
        let last = nar.windows(8).rposition(|word| word == b"contents").expect("it has a file");
        // After the word and the length.
        nar[last + 16] ^= 1;
    }));
    let caches = [format!("{}?priority=1", liar.url()), format!("{}?priority=2", honest.url())];
    let backend = backend(&caches.each_ref().map(String::as_str), &[liar.key(), honest.key()]).start();
    let image = Image::pull(&backend.registry(), "many-paths");
    assert_eq!(image.digests(), Image::pull(&from_store().registry(), "many-paths").digests());
    assert!(liar.asked().iter().any(Asked::is_nar));
}

/// A path is on record, and the cache has lost it since. It is built like one that no cache ever had.
#[test]
fn what_a_cache_has_lost_is_built() {
    let dir = CacheDir::copy_of(&CacheDir::bundled(Compression::Zstd));
    let cache = FaultyCache::before(Cache::serve(&dir));
    let data = TempDir::new().expect("a temporary directory");
    let serve = || backend(&[&cache.url()], &[cache.key()]).env("FIRN_BUILD", "missing").data(data.path());
    cache.behave(nars(Reaction::Status(500)));
    assert_eq!(serve().start().registry().settled("1password", "latest").status, 503);
    let lost = package("_1password");
    fs::remove_file(dir.nar(&lost)).expect("it was there");
    dir.forget(&lost);
    cache.behave(|_| Reaction::Pass);
    let backend = serve().start();
    let image = Image::pull(&backend.registry(), "1password");
    assert_eq!(image.digests(), Image::pull(&from_store().registry(), "1password").digests());
    assert!(cache.asked().iter().any(|asked| asked.path.contains(&lost[11..43])), "it was asked for again");
}

/// What a key has vouched for is forgotten with the key, whatever was recorded of it.
#[test]
fn a_key_can_be_revoked() {
    let cache = Cache::bundled(Compression::Zstd);
    let other = CacheDir::bundled(Compression::Xz);
    let data = TempDir::new().expect("a temporary directory");
    let serve = |key: &str| backend(&[&cache.url()], &[key]).data(data.path()).start();
    let before = Image::pull(&serve(cache.key()).registry(), "hello").digests();
    let answer = serve(other.key()).registry().settled("hello", "latest");
    assert_eq!(answer.status, 503, "{}", answer.text());
    let backend = serve(cache.key());
    let again = Image::pull(&backend.registry(), "hello");
    assert_eq!(again.digests(), before);
}
