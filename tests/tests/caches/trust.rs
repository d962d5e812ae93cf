//! Whom a server believes: keys, trusted caches, paths that are named after their contents; and which cache goes first.

use crate::{assert_right, backend, with_caches};
use firn_tests::{
    backend::{Backend, Starting, command},
    binary_cache::{Cache, CacheDir, Compression},
    image::Image,
    layer, nix, package_set,
    program::Program,
    s3::{self, S3},
};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Fails unless the client is told to come again because of a cache, and the operator why.
fn assert_refused(backend: &Backend, name: &str, why: &str) {
    let answer = backend.registry().settled(name, "latest");
    let (code, message) = answer.error();
    assert_eq!((answer.status, code.as_str()), (503, "UNAVAILABLE"), "{message}");
    assert!(message.contains("binary cache"), "{message}");
    assert!(backend.log().contains(why), "{}", backend.log());
}

#[test]
fn signatures_must_be_of_a_trusted_key() {
    let [xz, zstd] = [Compression::Xz, Compression::Zstd].map(Cache::bundled);
    // The key of the other cache, none, and one of the same name.
    let (name, _) = zstd.key().split_once(':').expect("NAME:KEY");
    let (_, other) = xz.key().split_once(':').expect("NAME:KEY");
    for key in [xz.key(), "", &format!("{name}:{other}")] {
        assert_refused(&backend(&[&zstd.url()], &[key]).start(), "hello", "no trusted key has signed");
    }
    // One signature of several is enough.
    assert_right(&backend(&[&zstd.url()], &[xz.key(), zstd.key()]).start(), "hello");
}

#[test]
fn the_operator_may_trust_a_cache() {
    let cache = Cache::bundled(Compression::Zstd);
    assert_right(&backend(&[&format!("{}?trusted=1", cache.url())], &[]).start(), "hello");
    assert_refused(
        &backend(&[&format!("{}?trusted=0", cache.url())], &[]).start(),
        "hello",
        "no trusted key has signed",
    );
}

/// A package set with one package, a file with this content, whose store path is named after it.
fn fixed(content: &str) -> String {
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, content).expect("a file");
    let hash = nix::program("nix-hash").args(["--type", "sha256"]).args([&file]).run().succeeded();
    format!(
        r#"{{ system, ... }}: {{
  fixed = derivation {{
    name = "fixed-1.0";
    inherit system;
    builder = "/bin/bash";
    args = [ "-c" "printf %s '{content}' > $out; exit 0" ];
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    outputHash = "{hash}";
  }};
}}
"#
    )
}

/// Removes all signatures of a cache.
fn without_signatures(dir: &CacheDir, paths: &[String]) {
    for path in paths {
        let text = fs::read_to_string(dir.narinfo(path)).expect("a description");
        let lines: String =
            text.lines().filter(|line| !line.starts_with("Sig:")).map(|line| format!("{line}\n")).collect();
        dir.rewrite(&dir.narinfo(path), lines.as_bytes());
    }
}

#[test]
fn paths_named_after_their_contents_need_no_signature() {
    let sets = TempDir::new().expect("a temporary directory");
    let place = |name: &str| sets.path().join(name);
    let content = format!("snow of {}", std::process::id());
    let make = |name: &str, content: &str| {
        package_set::write(&place(name), &fixed(content));
        let outputs = nix::build_expression(&place(name), "fixed");
        let dir = CacheDir::new(Compression::Xz, "firn-test", &outputs);
        without_signatures(&dir, &outputs);
        (dir, outputs[0].clone())
    };
    let (dir, path) = make("right", &content);
    let (other, other_path) = make("wrong", "evil");
    let serve = |dir: &CacheDir, set: &Path| {
        let cache = Cache::serve(dir);
        let backend = with_caches(Backend::serving(set), &[&cache.url()], &[]).start();
        (cache, backend)
    };
    let (_cache, backend) = serve(&dir, &place("right"));
    Image::pull(&backend.registry(), "fixed").layers(&backend.registry());

    // Other contents, described consistently but for the path's name.
    let text = fs::read_to_string(other.narinfo(&other_path)).expect("a description");
    let ca = format!("CA: {}", dir.field(&path, "CA"));
    let lie: String = text
        .lines()
        .map(|line| match line {
            line if line.starts_with("StorePath:") => format!("StorePath: {path}\n"),
            line if line.starts_with("CA:") => format!("{ca}\n"),
            line => format!("{line}\n"),
        })
        .collect();
    let bad = CacheDir::copy_of(&other);
    bad.rewrite(&bad.narinfo(&path), lie.as_bytes());
    let (_cache, backend) = serve(&bad, &place("right"));
    assert_refused(&backend, "fixed", "no trusted key has signed");
    // The same, and the name of the contents that are there.
    let lie = lie.replace(&ca, &format!("CA: {}", other.field(&other_path, "CA")));
    bad.rewrite(&bad.narinfo(&path), lie.as_bytes());
    let (_cache, backend) = serve(&bad, &place("right"));
    assert_refused(&backend, "fixed", "no trusted key has signed");
}

#[test]
fn the_cache_with_the_lowest_priority_number_goes_first() {
    let copies = [Compression::Xz, Compression::Zstd].map(|c| CacheDir::copy_of(&CacheDir::bundled(c)));
    for (dir, priority) in copies.iter().zip([50, 10]) {
        let info = format!("StoreDir: /nix/store\nPriority: {priority}\n");
        dir.rewrite(&dir.path().join("nix-cache-info"), info.as_bytes());
    }
    let [far, near] = copies.each_ref().map(Cache::serve);
    let keys = [far.key(), near.key()];
    assert_right(&backend(&[&far.url(), &near.url()], &keys).start(), "hello");
    assert!(far.nars().is_empty() && near.nars().len() == 4, "{:?}", far.requests());
    // The operator knows better.
    assert_right(&backend(&[&format!("{}?priority=1", far.url()), &near.url()], &keys).start(), "hello");
    assert!(far.nars().len() == 4 && near.nars().len() == 4, "{:?}", near.requests());
}

/// Only caches by https need authorities that say who they are.
#[test]
fn a_machine_without_certificates_uses_caches_without_encryption() {
    let cache = Cache::bundled(Compression::Zstd);
    let nowhere =
        |starting: Starting| starting.env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere");
    assert_right(&nowhere(backend(&[&cache.url()], &[cache.key()])).start(), "hello");
    let data = TempDir::new().expect("a temporary directory");
    let check = command(&["check-config", "--pkgs-path", &package_set::bundled().display().to_string()])
        .args(["--data"])
        .args([data.path()])
        .env("FIRN_CACHES", "https://cache.example.org")
        .env("SSL_CERT_FILE", "/nowhere")
        .env("SSL_CERT_DIR", "/nowhere")
        .run();
    assert!(check.all().contains("No CA certificates were loaded"), "{}", check.all());
}

/// A package whose content differs with each build.
fn unsteady() -> String {
    format!(
        r#"{{ system, ... }}: {{
  unsteady = derivation {{
    name = "unsteady-1.0";
    inherit system;
    builder = "/bin/bash";
    args = [ "-c" "read -r id < /proc/sys/kernel/random/uuid; echo $id {} > $out; exit 0" ];
  }};
}}
"#,
        std::process::id()
    )
}

#[test]
fn caches_that_disagree_are_reported_and_the_first_counts() {
    let sets = TempDir::new().expect("a temporary directory");
    let set = sets.path().join("set");
    package_set::write(&set, &unsteady());
    let build = || {
        let outputs = nix::build_expression(&set, "unsteady");
        let content = fs::read(&outputs[0]).expect("it was built");
        let cache = CacheDir::new(Compression::Xz, "firn-test", &outputs);
        nix::program("nix-store").args(["--delete"]).args(&outputs).run().succeeded();
        (cache, layer::sha256(&*content).expect("bytes"))
    };
    let built = [build(), build()];
    assert_ne!(built[0].1, built[1].1);
    let served = built.each_ref().map(|(dir, _)| Cache::serve(dir));
    for first in [0, 1] {
        let (counts, differs) = (&served[first], &served[1 - first]);
        // In the other order.
        let caches = [format!("{}?priority=2", differs.url()), format!("{}?priority=1", counts.url())];
        let caches = caches.each_ref().map(String::as_str);
        let backend = with_caches(Backend::serving(&set), &caches, &[counts.key(), differs.key()]).start();
        let layers = Image::pull(&backend.registry(), "unsteady").layers(&backend.registry());
        let file = layers
            .iter()
            .flat_map(|layer| &layer.entries)
            .find(|entry| entry.path.ends_with(b"-unsteady-1.0"));
        assert_eq!(file.expect("the file is there").content.as_ref(), Some(&built[first].1));
        let log = backend.log();
        let report = log.lines().find(|line| line.contains("binary caches disagree on a store path"));
        let report = report.unwrap_or_else(|| panic!("they are not reported: {log}"));
        assert!(report.contains(&format!("counts={}", counts.url())), "{report}");
        assert!(report.contains(&format!("differs={}", differs.url())), "{report}");
    }
}

/// A cache for another store directory has nothing for this one.
#[test]
fn a_cache_of_another_store_is_not_used() {
    let dir = CacheDir::copy_of(&CacheDir::bundled(Compression::Xz));
    dir.rewrite(&dir.path().join("nix-cache-info"), b"StoreDir: /gnu/store\n");
    let (wrong, right) = (Cache::serve(&dir), Cache::bundled(Compression::Zstd));
    let caches = [format!("{}?priority=1", wrong.url()), right.url()];
    let backend = backend(&caches.each_ref().map(String::as_str), &[wrong.key(), right.key()]).start();
    assert_right(&backend, "hello");
    assert_eq!(wrong.nars(), []);
}

#[test]
fn directories_and_buckets_are_caches_too() {
    let bundled = CacheDir::bundled(Compression::Zstd);
    let url = format!("file://{}", bundled.path().display());
    assert_right(&backend(&[&url], &[bundled.key()]).start(), "hello");

    let bucket = S3::start();
    let hello = nix::build(package_set::bundled(), &["hello", "cacert", "iana-etc"]);
    let dir = CacheDir::new(Compression::Xz, "firn-test", &hello);
    // A bucket is a cache as a whole, as for Nix.
    let files = dir.path().join(".");
    Program::new("cp").args(["--recursive"]).args([files, bucket.objects()]).run().succeeded();
    let url = format!("s3://{}", s3::BUCKET);
    let starting = bucket
        .environment()
        .into_iter()
        .fold(backend(&[&url], &[dir.key()]), |starting, (name, value)| starting.env(name, value));
    assert_right(&starting.start(), "hello");
}
