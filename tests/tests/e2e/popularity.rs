//! `firn popularity`: collects data for layering from a binary cache or the local store.

use firn_tests::{
    backend::{Backend, command},
    nix, package_set,
    program::{Finished, Program, find},
    web,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

/// How many of these store paths refer to each name, according to Nix.
fn counts(paths: &[String]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for path in paths {
        let references = nix::program("nix-store").args(["--query", "--references", path]).run().succeeded();
        for reference in references.lines().filter(|reference| reference != path) {
            let name = reference.split_once('-').expect("a hash and a name").1;
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("it was written")).expect("JSON")
}

#[test]
fn reads_a_binary_cache_and_goes_on_where_it_was_stopped() {
    let built = nix::build(package_set::bundled(), &["nano", "curl"]);
    let closure: Vec<String> = nix::closure(&built).into_iter().collect();
    let dir = TempDir::new().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let cache = format!("file://{}", text("cache"));
    nix::program("nix").args(["copy", "--to", &cache]).args(&built).run().succeeded();
    fs::write(path("paths"), built.join("\n") + "\n").expect("written");
    let popularity = |url: &str, output: &str| -> Finished {
        let (output, profile) = (text(output), text(&format!("{output}-profile")));
        let journal = text("journal");
        let mut arguments = vec!["popularity", "--cache", url, "--paths"];
        let paths = text("paths");
        arguments.extend([&paths, "--output", &output, "--profile", &profile]);
        if url.starts_with("http") {
            arguments.extend(["--journal", &journal]);
        }
        command(&arguments).run()
    };

    popularity(&cache, "directory").succeeded();
    let expect = serde_json::to_value(counts(&closure)).expect("names and counts");
    assert_eq!(read(&path("directory")), expect);
    let profile = read(&path("directory-profile"));
    let known = profile["places"].as_object().expect("places");
    for member in &closure {
        let name = member.split_once('-').expect("a hash and a name").1;
        assert!(known.contains_key(name), "{name}");
    }

    // The server fails in the middle, and so does the command. What it has read is kept.
    let most = closure.len() / 2;
    let (url, requests) = web::serve_files(path("cache"), most);
    let finished = popularity(&url, "stopped");
    assert_eq!(finished.status, 1, "{finished:?}");
    assert!(finished.stderr.contains("cannot read the narinfo of /nix/store/"), "{finished:?}");
    assert!(!path("stopped").exists() && !path("stopped-profile").exists());
    assert_eq!(requests.try_iter().count(), most);

    let (url, requests) = web::serve_files(path("cache"), usize::MAX);
    popularity(&url, "resumed").succeeded();
    let left = requests.try_iter().count();
    // Requests that were under way when the command gave up may have been lost.
    assert!((closure.len() - most..closure.len()).contains(&left), "{left} of {}", closure.len());
    assert_eq!(read(&path("resumed")), read(&path("directory")));
    assert_eq!(read(&path("resumed-profile")), profile);
}

#[test]
fn reads_the_local_store() {
    let built = nix::build(package_set::bundled(), &["hello"]);
    let dir = TempDir::new().expect("a temporary directory");
    let output = dir.path().join("counts");
    command(&["popularity", "--store", "--output", &output.display().to_string()]).run().succeeded();
    let counts = read(&output);
    for (name, least) in self::counts(&nix::closure(&built).into_iter().collect::<Vec<_>>()) {
        assert!(counts[&name].as_u64().is_some_and(|count| count >= least), "{name}: {counts}");
    }
}

/// If a path is deleted while Nix reads the store, Nix fails. At the next attempt the path is not listed. A server's
/// operator can use the server's own records instead.
#[test]
fn reads_what_a_server_has_recorded() {
    let data = TempDir::new().expect("a temporary directory");
    let path = |name: &str| data.path().join(name).display().to_string();
    let backend = Backend::serving(package_set::bundled()).data(data.path()).start();
    backend.registry().built("curl", "latest");
    backend.registry().built("shell/nano", "latest");
    let closure = nix::closure(&nix::build(package_set::bundled(), &["curl", "nano", "bash", "coreutils"]));
    let learn = |profile: &str| {
        command(&[
            "popularity",
            "--records",
            "--data",
            &path(""),
            "--output",
            "/dev/null",
            "--profile",
            profile,
        ])
        .run()
    };
    let profile = path("profile.json");
    let finished = learn(&profile);
    assert!(finished.stderr.contains("firn: profile "), "{finished:?}");
    finished.succeeded();
    let places = read(Path::new(&profile))["places"].as_object().expect("places").clone();
    for member in closure {
        let name = member.split_once('-').expect("a hash and a name").1;
        assert!(places.contains_key(name), "{name}");
    }
    // One more known package gives another profile. The same packages give the same profile.
    let again = path("again.json");
    learn(&again).succeeded();
    assert_eq!(read(Path::new(&again)), read(Path::new(&profile)));
    backend.registry().built("jq", "latest");
    learn(&again).succeeded();
    assert_ne!(read(Path::new(&again))["id"], read(Path::new(&profile))["id"]);

    // A new profile must be configured. Images that were pulled before stay.
    let before =
        backend.registry().built("shell/nano", "latest").header("docker-content-digest").map(str::to_owned);
    drop(backend);
    let backend =
        Backend::serving(package_set::bundled()).data(data.path()).args(&["--profile", &profile]).start();
    backend.registry().built("shell/nano", "latest");
    let before = before.expect("a digest");
    assert_eq!(backend.registry().get(&format!("/v2/shell/nano/manifests/{before}")).status, 200);
}

#[test]
fn reads_a_store_that_others_delete_from() {
    let dir = TempDir::new().expect("a temporary directory");
    let (bin, failed) = (dir.path().join("bin"), dir.path().join("failed").display().to_string());
    fs::create_dir(&bin).expect("a directory");
    let script = format!(
        "#!/bin/bash\nif [[ ! -e '{failed}' ]]; then touch '{failed}'; \
         echo \"error: path '/nix/store/x' is not valid\" >&2; exit 1; fi\nexec '{}' \"$@\"\n",
        find("nix-store").display()
    );
    let written = dir.path().join("script");
    fs::write(&written, script).expect("a script");
    fs::set_permissions(&written, Permissions::from_mode(0o755)).expect("permissions");
    // Copied by another process. If this process wrote the file, a child that it starts meanwhile could have it open
    // for writing for a moment, and then it cannot be run.
    Program::new("cp").args([&written, &bin.join("nix-store")]).run().succeeded();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("$PATH is set"));
    command(&["popularity", "--store", "--output", "/dev/null"]).env("PATH", path).run().succeeded();
    assert!(Path::new(&failed).exists());
}
