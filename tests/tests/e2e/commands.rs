//! `firn search` and `firn check-config`, as people and scripts use them.

use firn_tests::{
    backend::{Backend, command},
    git::Repository,
    image::Image,
    package_set,
    program::{Finished, Program},
};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

/// A command on the bundled set, with its data in a directory.
fn on_bundled(name: &str, data: &Path, arguments: &[&str]) -> Program {
    let (set, data) = (package_set::bundled().display().to_string(), data.display().to_string());
    command(&[&[name, "--pkgs-path", &set, "--data", &data], arguments].concat())
}

fn lines(finished: Finished) -> Vec<String> {
    finished.succeeded().lines().map(str::to_owned).collect()
}

#[test]
fn search_finds_what_can_be_asked_for() {
    let data = TempDir::new().expect("a temporary directory");
    let search = |word: &str| on_bundled("search", data.path(), &[word]).run();
    // If the set has another spelling, that is printed too.
    assert_eq!(lines(search("pyyaml"))[0], "python3packages.pyyaml  python3Packages.pyYAML");
    assert_eq!(lines(search("hellowrld"))[0], "helloworld  helloWorld");
    assert_eq!(lines(search("git"))[0], "git");
    assert_eq!(lines(search("1password"))[0], "1password  _1password");
    let nothing = search("qqqqqqqq");
    assert_eq!((nothing.status, nothing.text().as_str()), (1, ""));
    assert!(nothing.stderr.contains("is similar to \"qqqqqqqq\""), "{nothing:?}");

    let found = on_bundled("search", data.path(), &["--json", "--limit", "1", "requests"]).run().succeeded();
    let found: Value = serde_json::from_str(&found).expect("JSON");
    let expect = json!([{ "name": "python3packages.requests", "attribute": "python3Packages.requests" }]);
    assert_eq!(found, expect);
    // The printed names can be pulled.
    let backend = Backend::serving(package_set::bundled()).data(data.path()).start();
    Image::pull(&backend.registry(), found[0]["name"].as_str().expect("a name"));
}

/// The names are listed once per revision. After that, no Nix is needed as long as nothing changes.
#[test]
fn search_lists_names_once() {
    let data = TempDir::new().expect("a temporary directory");
    lines(on_bundled("search", data.path(), &["git"]).run());
    let without = on_bundled("search", data.path(), &["htop"]).env("PATH", "/nonexistent");
    assert_eq!(lines(without.run())[0], "htop");
    let new = TempDir::new().expect("a temporary directory");
    let without = on_bundled("search", new.path(), &["htop"]).env("PATH", "/nonexistent").run();
    assert!(without.status == 1 && without.stderr.contains("cannot list the names"), "{without:?}");
}

#[test]
fn search_looks_into_the_version_that_is_meant() {
    let dir = TempDir::new().expect("a temporary directory");
    let repository = Repository::new(&dir.path().join("repository"));
    repository.commit("{ ... }: { olden = derivation { name = \"a\"; system = \"x\"; builder = \"x\"; }; }");
    repository.git(&["tag", "v1"]);
    repository.commit("{ ... }: { golden = derivation { name = \"a\"; system = \"x\"; builder = \"x\"; }; }");
    let data = dir.path().join("data").display().to_string();
    let search = |tag: &str| {
        command(&["search", "olden", "--pkgs-repo", &repository.url(), "--tag", tag, "--data", &data]).run()
    };
    assert_eq!(search("v1").succeeded(), "olden");
    assert_eq!(search("latest").succeeded(), "golden");
    let lost = search("v2");
    assert!(lost.status == 1 && lost.stderr.contains("no branch or tag \"v2\""), "{lost:?}");
}

/// The findings of a report about one subject.
fn findings(report: &Value, about: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let all = report["findings"].as_array().expect("a list").iter();
    all.filter(|finding| finding["about"] == about)
        .map(|finding| (text(&finding["level"]), text(&finding["message"])))
        .collect()
}

#[test]
fn check_config_says_what_counts_and_why() {
    let data = TempDir::new().expect("a temporary directory");
    let check = |arguments: &[&str]| {
        on_bundled("check-config", data.path(), arguments)
            .env("FIRN_SECRET", "a secret that nobody may see")
            .env("FIRN_WAIT", "7")
            .env("NIX_TIMEOUT", "99")
            .env("FIRN_LISTN", "127.0.0.1:1")
            .env("FIRN_POPULARITY_URL", "https://me:passphrase@example.org/x?key=hidden")
            .run()
    };
    let finished = check(&["--json"]);
    for secret in ["nobody may see", "passphrase", "hidden"] {
        assert!(!finished.all().contains(secret), "{secret}: {}", finished.text());
    }
    let report: Value = serde_json::from_str(&finished.succeeded()).expect("JSON");
    let setting = |option: &str| {
        let all = report["settings"].as_array().expect("a list").iter();
        let setting = all.clone().find(|setting| setting["option"] == option).expect("an option");
        (setting["value"].clone(), setting["origin"].clone())
    };
    let variable = |name: &str| json!({ "kind": "variable", "name": name });
    assert_eq!(setting("--wait"), (json!("7"), variable("FIRN_WAIT")));
    assert_eq!(setting("--secret"), (json!("(set)"), variable("FIRN_SECRET")));
    assert_eq!(setting("--nix-timeout"), (json!("99"), json!({ "kind": "nixery", "name": "NIX_TIMEOUT" })));
    assert_eq!(setting("--data").1, json!({ "kind": "option" }));
    assert_eq!(setting("--max-queue"), (json!("200"), json!({ "kind": "default" })));
    assert_eq!(setting("--revisions").0, "fixed");
    for (about, says) in [("nix", "evaluates"), ("storage", "written"), ("packages", "loads at content ")] {
        let found = findings(&report, about);
        assert!(found.len() == 1 && found[0].0 == "ok" && found[0].1.contains(says), "{about}: {found:?}");
    }
    let found = findings(&report, "environment");
    assert!(found.len() == 1 && found[0].1.contains("did you mean FIRN_LISTEN?"), "{found:?}");

    // The same for people: one line each.
    let text = check(&[]).succeeded();
    assert!(text.lines().any(|line| line.starts_with("--wait ") && line.ends_with(" FIRN_WAIT")), "{text}");
    assert!(text.lines().any(|line| line.ends_with("NIX_TIMEOUT (Nixery's)")), "{text}");
    assert!(text.lines().any(|line| line.starts_with("ok ") && line.contains("nix: nix")), "{text}");
}

/// Exit code 2 for a contradictory configuration, and 1 for one that does not work. Each message says what to do.
#[test]
fn check_config_tells_what_is_wrong() {
    let dir = TempDir::new().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    package_set::write(&dir.path().join("broken"), "{ system, ... }: throw \"melted\"");
    let set = package_set::bundled().display().to_string();
    let check = |program: Program, status: i32, about: &str, says: &str| {
        let finished = program.run();
        assert_eq!(finished.status, status, "{finished:?}");
        let report: Value = serde_json::from_slice(&finished.stdout).expect("JSON");
        let found = findings(&report, about);
        let bad = |(level, message): &(String, String)| level != "ok" && message.contains(says);
        assert!(found.iter().any(bad), "{about} {says}: {found:?}");
    };
    let with = |arguments: &[&str]| {
        command(&[&["check-config", "--json", "--data", &path("data")], arguments].concat())
    };
    check(with(&[]), 2, "packages", "no package set");
    check(with(&["--pkgs-path", "/nonexistent"]), 2, "packages", "does not exist");
    check(with(&["--pkgs-path", &set, "--storage", "ftp://x"]), 2, "storage", "correct FIRN_STORAGE");
    check(with(&["--pkgs-path", &path("broken")]), 1, "packages", "must be a function");
    let lost = format!("file://{}", path("nowhere"));
    check(with(&["--pkgs-repo", &lost]), 1, "packages", "check the URL");
    check(with(&["--pkgs-path", &set]).env("PATH", "/nonexistent"), 1, "nix", "install Nix");
}
