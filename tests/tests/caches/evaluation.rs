//! Evaluation writes nothing, unless an expression reads what it has written.

use crate::{backend, stored, with_caches};
use firn_tests::{
    backend::Backend,
    binary_cache::{Cache, CacheDir, Compression},
    image::Image,
    nix, package_set,
};
use tempfile::TempDir;

#[test]
fn an_image_out_of_a_cache_leaves_the_store_empty() {
    let cache = Cache::bundled(Compression::Zstd);
    let backend = backend(&[&cache.url()], &[cache.key()]).env("FIRN_BUILD", "missing").start();
    Image::pull(&backend.registry(), "shell/hello").layers(&backend.registry());
    assert_eq!(stored(&backend), Vec::<String>::new(), "not even derivations");
    assert_eq!(backend.nix_processes(), 1, "one evaluation");
}

#[test]
fn expressions_may_read_what_they_write() {
    let sets = TempDir::new().expect("a temporary directory");
    let place = sets.path().join("set");
    let set = format!(
        r#"{{ system, ... }}: {{
  reads = derivation {{
    inherit system;
    name = "reads-${{builtins.readFile (builtins.toFile "version-{}" "1.0")}}";
    builder = "/bin/bash";
    args = [ "-c" "echo {0} > $out; exit 0" ];
  }};
}}
"#,
        std::process::id()
    );
    package_set::write(&place, &set);
    let outputs = nix::build_expression(&place, "reads");
    let files = CacheDir::new(Compression::Zstd, "firn-test", &outputs);
    let cache = Cache::serve(&files);
    let start = |policy: &str| {
        let backend = with_caches(Backend::serving(&place), &[&cache.url()], &[cache.key()]);
        backend.env("FIRN_BUILD", policy).start()
    };
    let images = ["never", "missing"].map(|policy| Image::pull(&start(policy).registry(), "reads").digests());
    assert_eq!(images[0], images[1]);
}

/// Names of one request are evaluated together, and what was found of one counts even if another does not exist.
#[test]
fn names_share_an_evaluation_and_what_was_found_is_kept() {
    let cache = Cache::bundled(Compression::Zstd);
    let backend = backend(&[&cache.url()], &[cache.key()]).start();
    Image::pull(&backend.registry(), "hello/which/tree");
    assert_eq!(backend.nix_processes(), 1, "one evaluation for three names");
    let answer = backend.registry().settled("jq/no-such-package", "latest");
    assert_eq!(answer.status, 404, "{}", answer.text());
    let before = backend.nix_processes();
    Image::pull(&backend.registry(), "jq");
    assert_eq!(backend.nix_processes(), before, "it was resolved when the other name was not found");
}
