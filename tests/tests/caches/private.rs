//! Caches that require a name and a password.

use crate::{backend, from_store};
use firn_tests::{
    backend::Backend,
    binary_cache::{Cache, CacheDir, Compression},
    empty_store,
    image::Image,
    nix, package_set,
};
use std::fs;
use tempfile::TempDir;

const NAME: &str = "reader";
const PASSWORD: &str = "pass-the-snow";

/// The image is right, and nobody learns the password.
fn assert_serves(backend: &Backend) {
    let expect = Image::pull(&from_store().registry(), "hello").digests();
    assert_eq!(Image::pull(&backend.registry(), "hello").digests(), expect);
    assert!(!backend.log().contains(PASSWORD), "{}", backend.log());
}

#[test]
fn a_private_cache_is_read_with_the_password_of_netrc() {
    let cache = Cache::serve_privately(&CacheDir::bundled(Compression::Zstd), NAME, PASSWORD);
    let dir = TempDir::new().expect("a temporary directory");
    let netrc = dir.path().join("netrc");
    fs::write(&netrc, format!("machine 127.0.0.1 login {NAME} password {PASSWORD}\n")).expect("a file");
    let netrc = netrc.to_str().expect("UTF-8");
    assert_serves(&backend(&[&cache.url()], &[cache.key()]).env("FIRN_CACHE_NETRC", netrc).start());
    // Where Nix finds it, too.
    let config = format!(
        "{}\nsubstitute = true\nsubstituters = {}\nnetrc-file = {netrc}\n",
        nix::config(),
        cache.url()
    );
    let config = format!("{config}trusted-public-keys = {}\n", cache.key());
    let of_nix = Backend::serving(package_set::bundled())
        .within(&empty_store::WITHIN)
        .env("FIRN_BUILD", "never")
        .env("NIX_CONFIG", &config);
    assert_serves(&of_nix.start());

    let without = backend(&[&cache.url()], &[cache.key()]).start();
    let answer = without.registry().settled("hello", "latest");
    assert!(answer.status == 503 || answer.status == 404, "{}", answer.text());
}

#[test]
fn a_password_in_the_url_is_nobody_elses_business() {
    let cache = Cache::serve_privately(&CacheDir::bundled(Compression::Zstd), NAME, PASSWORD);
    let url = |password: &str| format!("http://{NAME}:{password}@{}", cache.address());
    assert_serves(&backend(&[&url(PASSWORD)], &[cache.key()]).start());
    let wrong = backend(&[&url("wrong-snow")], &[cache.key()]).start();
    let answer = wrong.registry().settled("hello", "latest");
    assert!(answer.status == 503 || answer.status == 404, "{}", answer.text());
    assert!(!answer.text().contains("wrong-snow") && !wrong.log().contains("wrong-snow"), "{}", wrong.log());
}

/// Nix names a file of passwords whether there is one or not. Nobody asked for it.
#[test]
fn a_file_of_nix_that_cannot_be_read_stops_no_server() {
    let cache = Cache::bundled(Compression::Zstd);
    let directory = TempDir::new().expect("a temporary directory");
    let config = format!(
        "{}\nnetrc-file = {}\ntrusted-public-keys = {}\n",
        nix::config(),
        directory.path().display(),
        cache.key()
    );
    let backend = Backend::serving(package_set::bundled())
        .within(&empty_store::WITHIN)
        .env("NIX_CONFIG", &config)
        .env("FIRN_CACHES", &cache.url())
        .env("FIRN_BUILD", "never")
        .start();
    Image::pull(&backend.registry(), "hello");
}
