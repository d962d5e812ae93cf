//! Starting Firn: which configurations it refuses, which of Nixery's variables it supports, and where popularity data
//! come from.

use firn_tests::{
    backend::{Backend, command},
    git::Repository,
    image::Image,
    nix, package_set,
    program::Program,
    wait::LONG,
    web,
};
use std::time::Duration;
use tempfile::TempDir;

fn refuses(command: Program, says: &str) {
    let finished = command.limit(Duration::from_secs(60)).run();
    assert_eq!(finished.status, 2, "{finished:?}");
    let notes = |line: &&str| line.contains("is a variable of Nixery; its name in Firn is");
    assert_eq!(finished.stderr.lines().filter(|line| !notes(line)).count(), 1, "one line: {finished:?}");
    assert!(finished.stderr.contains(says) && finished.stdout.is_empty(), "{finished:?}");
}

#[test]
fn refuses_to_start_without_exactly_one_package_source() {
    refuses(command(&["serve"]), "no package set");
    refuses(command(&["build", "hello"]), "no package set");
    refuses(command(&["serve", "--pkgs-path", "/", "--channel", "nixos-24.05"]), "more than one package set");
    refuses(
        command(&["serve"]).env("FIRN_PKGS_PATH", "/").env("FIRN_PKGS_REPO", "file:///x"),
        "more than one",
    );
    refuses(
        command(&["serve"]).env("NIXERY_CHANNEL", "nixos-24.05").env("NIXERY_PKGS_PATH", "/"),
        "more than one",
    );
    refuses(command(&["serve", "--pkgs-path", "/nonexistent"]), "does not exist");
    refuses(command(&["serve", "--pkgs-repo=--upload-pack=id"]), "is not a URL");
    refuses(command(&["serve", "--channel", "../x"]), "package set");
}

#[test]
fn refuses_what_it_cannot_use() {
    let set = package_set::bundled().display().to_string();
    let dir = TempDir::new().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("file"), "").expect("written");
    let serve = ["serve", "--pkgs-path", &set, "--listen", "127.0.0.1:0"];
    let with = |arguments: &[&str]| command(&[&serve, arguments].concat());
    let data = path("data");
    refuses(with(&["--data", &path("file")]), "--data");
    refuses(with(&["--data", &data, "--storage", "ftp://example.org/"]), "ftp");
    let popularity = ["--strategy", "popularity", "--popularity-url", "/nonexistent", "--data", &data];
    refuses(with(&popularity), "popularity-url");
}

#[test]
fn understands_nixerys_variables() {
    let storage = TempDir::new().expect("a temporary directory");
    let set = package_set::bundled().display().to_string();
    let backend = Backend::with(&[])
        .env("PORT", "0")
        .env("NIXERY_PKGS_PATH", &set)
        .env("NIXERY_STORAGE_BACKEND", "filesystem")
        .env("STORAGE_PATH", &storage.path().display().to_string())
        .env("NIX_TIMEOUT", "240")
        .start();
    for (nixery, firn) in [
        ("PORT", "FIRN_LISTEN"),
        ("NIXERY_PKGS_PATH", "FIRN_PKGS_PATH"),
        ("STORAGE_PATH", "FIRN_STORAGE"),
        ("NIX_TIMEOUT", "FIRN_NIX_TIMEOUT"),
    ] {
        assert_eq!(
            backend.logged(&format!("{nixery} is a variable of Nixery; its name in Firn is {firn}")),
            1,
            "{}",
            backend.log()
        );
    }
    let image = Image::pull(&backend.registry(), "hello");
    let blob = image.layer_digests().remove(0).replace("sha256:", "");
    let found =
        Program::new("find").args([storage.path()]).args(["-name", &format!("*{blob}*")]).run().succeeded();
    assert!(!found.is_empty(), "blobs are where Nixery's variable says");
}

/// Nixery's users also give the popularity data by URL. The data decide the layers.
#[test]
fn popularity_data_comes_from_a_url() {
    let set = package_set::bundled();
    // Counts are by name and version, as in a store path.
    let nano = nix::build(set, &["nano"]).remove(0);
    let name = nano.split_once('-').expect("a hash and a name").1;
    let (url, requests) = web::serve(serde_json::json!({ name: 1_000_000, "other-1.0": 2 }).to_string());
    let popular = |backend: firn_tests::backend::Starting| {
        backend.args(&["--strategy", "popularity", "--layer-budget", "8"]).start()
    };
    let with = popular(Backend::serving(set).env("NIX_POPULARITY_URL", &url));
    assert_eq!(requests.recv_timeout(LONG).expect("it is fetched"), "GET /data.json HTTP/1.1");
    let without = popular(Backend::serving(set));
    let pull = |backend: &Backend| {
        let image = Image::pull(&backend.registry(), "shell/git/curl");
        let layers = image.layers(&backend.registry());
        assert!(layers.len() <= 9, "{} layers", layers.len());
        image.layer_digests()
    };
    assert_ne!(pull(&with), pull(&without), "the data matters");
}

/// Nixery's variables for other package sources.
#[test]
fn understands_nixerys_other_sources() {
    let dir = TempDir::new().expect("a temporary directory");
    let repository = Repository::new(&dir.path().join("repository"));
    let commit = repository.commit(&package_set::small("nixery"));
    let backend = Backend::with(&[]).env("NIXERY_PKGS_REPO", &repository.url()).start();
    let answer = backend.registry().built("greeting", "main");
    assert_eq!(answer.header("x-firn-revision"), Some(commit.as_str()));
    assert_eq!(
        backend.logged("NIXERY_PKGS_REPO is a variable of Nixery; its name in Firn is FIRN_PKGS_REPO"),
        1
    );

    // No channel can be downloaded here, but the log shows which one would be.
    let backend = Backend::with(&["--revisions", "fixed"]).env("NIXERY_CHANNEL", "nixos-24.05").start();
    assert_eq!(backend.logged("NIXERY_CHANNEL is a variable of Nixery; its name in Firn is FIRN_CHANNEL"), 1);
    let (code, message) = backend.registry().get("/v2/git/manifests/nixos-23.11").error();
    assert!(code == "MANIFEST_UNKNOWN" && message.contains("only the tag latest"), "{code}: {message}");
}

/// Nixery's variable limits the time of a build.
#[test]
fn nixerys_time_limit_counts() {
    let backend = Backend::serving_expression(&package_set::salted()).env("NIX_TIMEOUT", "2").start();
    let (_, message) = backend.registry().settled("slow-build", "latest").error();
    assert!(message.contains("longer than the 2 s"), "{message}");
}
