//! Images of another platform than the machine's, which cannot build for it.

use crate::with_caches;
use firn_tests::{
    backend::Backend,
    binary_cache::{Cache, CacheDir, Compression},
    image::Image,
    nix, package_set,
};
use tempfile::TempDir;

/// The system that this machine is not, as Nix and as Docker call it.
fn other() -> (&'static str, &'static str) {
    if cfg!(target_arch = "aarch64") { ("x86_64-linux", "amd64") } else { ("aarch64-linux", "arm64") }
}

#[test]
fn another_platform_comes_out_of_a_cache() {
    let (system, architecture) = other();
    let set = TempDir::new().expect("a temporary directory");
    let place = set.path().join("set");
    package_set::write(&place, &package_set::small(&format!("from afar, {}", std::process::id())));
    let outputs = nix::build_for(&place, "greeting", Some(system));
    let dir = CacheDir::new(Compression::Xz, "firn-test", &outputs);
    let cache = Cache::serve(&dir);
    let backend = with_caches(Backend::serving(&place), &[&cache.url()], &[cache.key()]).start();
    let registry = backend.registry();
    let image = Image::pull(&registry, &format!("{architecture}/greeting"));
    assert_eq!(image.config.architecture().to_string(), architecture);
    let layers = image.layers(&registry);
    let path = format!("{}/share/greeting", outputs[0]);
    let mut entries = layers.iter().flat_map(|layer| &layer.entries);
    assert!(entries.any(|entry| entry.path.ends_with(path.trim_start_matches('/').as_bytes())), "{path}");

    // This machine's own is in no cache, and another server without a cache cannot make the other one.
    assert_eq!(registry.settled("greeting", "latest").status, 404);
    let alone =
        Backend::serving(&place).env("FIRN_CACHES", "").within(&firn_tests::empty_store::WITHIN).start();
    let answer = alone.registry().settled(&format!("{architecture}/greeting"), "latest");
    assert_eq!(answer.status, 404, "{}", answer.text());
}
