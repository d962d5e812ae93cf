//! Sources of package sets: a path that changes, and a repository with branches, tags and commits.

use firn_tests::{
    backend::Backend, git::Repository, image::Image, nix, package_set, program::Program, registry::Answer,
    wait::LONG, web,
};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

fn digest(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("docker-content-digest").expect("a digest").to_owned()
}

fn label(answer: &Answer, name: &str) -> Option<String> {
    answer.json()["annotations"][format!("org.opencontainers.image.{name}")].as_str().map(str::to_owned)
}

/// Requests `latest` until it is another image.
fn changes(backend: &Backend, from: &str) -> Answer {
    firn_tests::wait::until("latest changes", LONG, || {
        let answer = backend.registry().built("greeting", "latest");
        (digest(&answer) != from).then_some(answer)
    })
}

#[test]
fn a_path_that_changes_gives_a_new_image() {
    let dir = TempDir::new().expect("a temporary directory");
    let set = dir.path().join("set");
    package_set::write(&set, &package_set::small("first"));
    let backend = Backend::serving(&set).start();
    let answer = backend.registry().built("greeting", "latest");
    let first = digest(&answer);
    assert_eq!(label(&answer, "created").as_deref(), Some("1970-01-01T00:00:00Z"), "a path has no date");
    assert_eq!(digest(&backend.registry().built("greeting", "latest")), first);

    package_set::write(&set, &package_set::small("second"));
    // The next request sees it.
    let second = backend.registry().built("greeting", "latest");
    assert_ne!(digest(&second), first);
    let image = Image::from_answer(&backend.registry(), "greeting", &second);
    let layers = image.layers(&backend.registry());
    let greeting =
        layers.iter().flat_map(|layer| &layer.entries).find(|entry| entry.path.ends_with(b"share/greeting"));
    assert_eq!(greeting.expect("the file is there").size, "second\n".len() as u64);

    // Back to the first content: the first image, which is known.
    package_set::write(&set, &package_set::small("first"));
    let third = digest(&backend.registry().built("greeting", "latest"));
    assert_eq!(third, first);
    // A path has no other versions, and the answer says so.
    let (code, message) = backend.registry().get("/v2/greeting/manifests/v1").error();
    assert!(code == "MANIFEST_UNKNOWN" && message.contains("only the tag latest"), "{code}: {message}");
}

#[test]
fn a_repository_has_branches_tags_and_commits() {
    let dir = TempDir::new().expect("a temporary directory");
    let repository = Repository::new(&dir.path().join("repository"));
    let commits: Vec<String> = ["one", "two"].map(|text| repository.commit(&package_set::small(text))).into();
    repository.git(&["tag", "light", &commits[0]]);
    repository.git(&["tag", "--annotate", "--message", "A release", "v1.0", &commits[0]]);
    repository.git(&["checkout", "--quiet", "-b", "deadbeef"]);
    let branch = repository.commit(&package_set::small("three"));
    repository.git(&["checkout", "--quiet", "main"]);

    let backend = Backend::with(&["--pkgs-repo", &repository.url(), "--revisions", "any"]).start();
    let ask = |tag: &str| backend.registry().built("greeting", tag);
    let ask_for = |name: &str| backend.registry().built(name, "light");
    for (tag, commit) in [
        ("latest", &commits[1]),
        ("main", &commits[1]),
        ("light", &commits[0]),
        ("v1.0", &commits[0]),
        // Hexadecimal digits that are too short for a commit.
        ("deadbeef", &branch),
        (&commits[0], &commits[0]),
        (&branch, &branch),
    ] {
        let answer = ask(tag);
        assert_eq!(label(&answer, "revision").as_deref(), Some(commit.as_str()), "{tag}");
        assert_eq!(label(&answer, "source"), Some(repository.url()), "{tag}");
        assert_eq!(answer.header("x-firn-revision"), Some(commit.as_str()), "{tag}");
        let format = "--date=format-local:%Y-%m-%dT%H:%M:%SZ";
        let committed = repository.git(&["show", "--no-patch", "--format=%cd", format, commit]);
        assert_eq!(label(&answer, "created"), Some(committed), "{tag}");
    }
    // Two names of one commit give the same image; different commits give different ones.
    assert_eq!(digest(&ask("v1.0")), digest(&ask("light")));
    assert_eq!(digest(&ask("v1.0")), digest(&ask(&commits[0])));
    assert_ne!(digest(&ask("v1.0")), digest(&ask("main")));

    // A slash may be percent-encoded.
    assert_eq!(digest(&ask_for("user%2Fgreeting")), digest(&ask_for("user/greeting")));

    lists_tags_page_by_page(&backend, &[commits[0].as_str(), &branch]);

    for tag in ["no-such-branch", "v1", &"0".repeat(40), "HEAD..main", "-x"] {
        let answer = backend.registry().settled("greeting", tag);
        let (code, message) = answer.error();
        assert_eq!((answer.status, code.as_str()), (404, "MANIFEST_UNKNOWN"), "{tag}: {message}");
    }
}

/// Every tag that was built is listed, sorted, and each page links to the next one.
fn lists_tags_page_by_page(backend: &Backend, commits: &[&str]) {
    let mut expect = vec!["deadbeef", "latest", "light", "main", "v1.0"];
    expect.extend(commits);
    expect.sort_unstable();
    let all = backend.registry().get("/v2/greeting/tags/list");
    assert_eq!(all.json(), json!({ "name": "greeting", "tags": expect }));
    assert_eq!(all.header("link"), None);
    let mut collected = Vec::new();
    let mut next = Some("/v2/greeting/tags/list?n=3".to_owned());
    while let Some(path) = next {
        let page = backend.registry().get(&path);
        let tags = page.json()["tags"].as_array().expect("a list").clone();
        assert!(tags.len() <= 3);
        collected.extend(tags.iter().map(|tag| tag.as_str().expect("a text").to_owned()));
        next = page.header("link").map(|link| {
            let (path, relation) =
                link.strip_prefix('<').and_then(|rest| rest.split_once('>')).expect("a link");
            assert_eq!(relation, "; rel=\"next\"");
            path.to_owned()
        });
    }
    assert_eq!(collected, expect);
    let after = backend.registry().get("/v2/greeting/tags/list?last=main&n=10");
    let rest: Vec<_> = expect.iter().filter(|tag| **tag > "main").collect();
    assert_eq!(after.json()["tags"], json!(rest));
}

#[test]
fn callers_choose_what_the_operator_lets_them() {
    let dir = TempDir::new().expect("a temporary directory");
    let repository = Repository::new(&dir.path().join("repository"));
    let commit = repository.commit(&package_set::small("one"));
    repository.git(&["tag", "v1"]);
    let check = |revisions: &[&str], tag: &str, status: u16| {
        let backend = Backend::with(&[&["--pkgs-repo", &repository.url()], revisions].concat()).start();
        let answer = backend.registry().settled("greeting", tag);
        assert_eq!(answer.status, status, "{revisions:?} {tag}: {}", answer.text());
    };
    check(&[], "v1", 200);
    check(&[], &commit, 404);
    check(&["--revisions", "fixed"], "v1", 404);
    check(&["--revisions", "fixed"], "latest", 200);
    check(&["--pkgs-ref", "v1"], "latest", 200);
    check(&["--pkgs-ref", &commit], "latest", 200);
    check(&["--pkgs-ref", "nowhere"], "latest", 404);
}

#[test]
fn a_moving_branch_gives_a_new_image_and_a_lost_repository_a_clear_answer() {
    let dir = TempDir::new().expect("a temporary directory");
    let place = dir.path().join("repository");
    let repository = Repository::new(&place);
    let commit = repository.commit(&package_set::small("one"));
    let backend = Backend::with(&["--pkgs-repo", &repository.url(), "--revisions", "any"]).start();
    let first = digest(&backend.registry().built("greeting", "latest"));

    let second = repository.commit(&package_set::small("two"));
    eprintln!("waiting for a branch to be looked up again, at most a minute and a half");
    let moved = changes(&backend, &first);
    assert_eq!(label(&moved, "revision"), Some(second));

    std::fs::rename(&place, dir.path().join("elsewhere")).expect("it can be renamed");
    // An image of a commit can be served for ever.
    assert_eq!(digest(&backend.registry().built("greeting", &commit)), first);
    let answer = backend.registry().get("/v2/greeting/manifests/another");
    let (code, message) = answer.error();
    assert_eq!((answer.status, code.as_str()), (503, "UNAVAILABLE"), "{message}");
    assert!(answer.header("retry-after").is_some());
    assert!(message.contains("cannot be reached") && !message.contains("file://"), "{message}");
}

/// The repository of nixpkgs is one of this machine, by git's own settings; the server of the channels likewise.
#[test]
fn a_channel_is_at_the_commit_that_its_server_names() {
    const NIXPKGS: &str = "https://github.com/NixOS/nixpkgs";
    let dir = TempDir::new().expect("a temporary directory");
    let repository = Repository::new(&dir.path().join("repository"));
    let set = |text: &str| package_set::small(&format!("{text} {}", std::process::id()));
    let commits = ["old", "one", "two"].map(|text| repository.commit(&set(text)));
    repository.git(&["branch", "staging", &commits[0]]);
    // A branch of that name is elsewhere: it is not asked.
    repository.git(&["branch", "nixos-24.05", &commits[0]]);
    let channels = web::Channels::start();
    channels.publish("nixos-24.05", &commits[1]);
    channels.publish("nixos-23.11", &commits[0]);
    let start = |options: &[&str]| {
        let source = ["--channel", "nixos-24.05", "--channels-url", channels.url()];
        Backend::with(&[&source, options].concat())
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", &format!("url.{}.insteadOf", repository.url()))
            .env("GIT_CONFIG_VALUE_0", NIXPKGS)
            .start()
    };
    let backend = start(&["--revisions", "refs"]);
    let first = backend.registry().built("greeting", "latest");
    assert_eq!(label(&first, "revision").as_ref(), Some(&commits[1]));
    assert_eq!(label(&first, "source").as_deref(), Some(NIXPKGS));
    let committed = |commit: &str| {
        let format = "--date=format-local:%Y-%m-%dT%H:%M:%SZ";
        repository.git(&["show", "--no-patch", "--format=%cd", format, commit])
    };
    assert_eq!(label(&first, "created"), Some(committed(&commits[1])));
    assert_eq!(backend.logged(&format!("nixos-24.05.{}", commits[1])), 1, "the release is named");

    // Callers choose channels, and what is a branch only. Both are evaluated under restrictions.
    for tag in ["nixos-23.11", "staging"] {
        let answer = backend.registry().built("greeting", tag);
        assert_eq!(label(&answer, "revision").as_ref(), Some(&commits[0]), "{tag}");
    }
    let answer = backend.registry().settled("greeting", "nixos-0.1");
    assert_eq!(answer.error().0, "MANIFEST_UNKNOWN", "{}", answer.text());

    // Nothing is evaluated again while it does not move.
    let (processes, asked) = (backend.nix_processes(), channels.named());
    assert!(asked <= 3, "{asked} lookups");
    for _ in 0..20 {
        assert_eq!(digest(&backend.registry().built("greeting", "latest")), digest(&first));
    }
    assert_eq!(backend.nix_processes(), processes);
    assert!(channels.named() <= 1, "once a minute");

    channels.publish("nixos-24.05", &commits[2]);
    eprintln!("waiting for a channel to be looked up again, at most a minute and a half");
    let moved = changes(&backend, &digest(&first));
    assert_eq!(label(&moved, "revision").as_ref(), Some(&commits[2]));

    // What a commit was is known while the server is down, and a new server cannot tell where the channel is.
    channels.fail(Some("503 Service Unavailable"));
    assert_eq!(digest(&backend.registry().built("greeting", "latest")), digest(&moved));
    let answer = start(&[]).registry().get("/v2/greeting/manifests/latest");
    let (code, message) = answer.error();
    assert_eq!((answer.status, code.as_str()), (503, "UNAVAILABLE"), "{message}");
    assert!(message.contains("cannot be reached"), "{message}");
}

/// Fetching has a limit of its own: this host takes longer than an evaluation may.
#[test]
fn a_source_may_be_slower_than_an_evaluation() {
    let dir = TempDir::new().expect("a temporary directory");
    let repository = Repository::new(&dir.path().join("repository"));
    let commit = repository.commit(&package_set::small(&format!("slow {}", std::process::id())));
    let (hook, settings) = (dir.path().join("hook"), dir.path().join("gitconfig"));
    std::fs::write(&hook, "#!/bin/sh\nsleep 15\nexec \"$@\"\n").expect("written");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    std::fs::write(&settings, format!("[uploadpack]\n  packObjectsHook = {}\n", hook.display()))
        .expect("written");
    let serve = |limit: &str| {
        Backend::with(&["--pkgs-repo", &repository.url(), "--eval-timeout", "10", "--fetch-timeout", limit])
            .env("GIT_CONFIG_GLOBAL", &settings.display().to_string())
            .start()
    };
    let answer = serve("120").registry().built("greeting", "latest");
    assert_eq!(label(&answer, "revision"), Some(commit));
    let answer = serve("5").registry().settled("greeting", "latest");
    let (code, message) = answer.error();
    assert_eq!((answer.status, code.as_str()), (503, "UNAVAILABLE"), "{message}");
    assert!(message.contains("fetching the package set took longer than 5 s"), "{message}");
}

/// What an expression downloads does not use up the time of its evaluation, which is ended after it.
#[test]
fn a_download_may_be_slower_than_an_evaluation() {
    let dir = TempDir::new().expect("a temporary directory");
    let set = dir.path().join("pinned/set");
    package_set::write(&set, &package_set::small(&format!("pinned {}", std::process::id())));
    let archive = dir.path().join("set.tar.gz");
    let make = Program::new("tar").args(["--create", "--gzip", "--file"]).args([&archive]);
    make.args(["--directory"]).args([dir.path().join("pinned")]).args(["set"]).run().succeeded();
    let hash = nix::program("nix-hash").args(["--type", "sha256", "--base32"]).args([&set]).run().succeeded();
    let bytes = std::fs::read(&archive).expect("it was made");
    let slow = web::serve_slowly(bytes, std::time::Duration::from_secs(18));
    let serve = |nix: &Path, salt: usize, limit: &str| {
        // Each Nix downloads it by itself.
        let set = format!(
            "import (fetchTarball {{ name = \"pinned-{salt}\"; url = \"{slow}/{salt}.tar.gz\"; sha256 = \"{hash}\"; }})"
        );
        let path = format!("{}:{}", nix.display(), std::env::var("PATH").expect("$PATH is set"));
        Backend::serving_expression(&set)
            .args(&["--eval-timeout", "12", "--fetch-timeout", limit])
            .env("PATH", &path)
            .start()
    };
    std::thread::scope(|scope| {
        for (i, nix) in nix::versions().into_iter().enumerate() {
            let serve = &serve;
            scope.spawn(move || {
                let backend = serve(&nix, i, "120");
                let answer = backend.registry().built("greeting", "latest");
                assert_eq!(answer.status, 200, "{nix:?}: {}\n{}", answer.text(), backend.log());
                let answer = serve(&nix, 10 + i, "4").registry().settled("greeting", "latest");
                let (code, message) = answer.error();
                assert_eq!((answer.status, &*code), (503, "UNAVAILABLE"), "{nix:?}: {message}");
                assert!(message.contains("what the package set downloads cannot be reached"), "{message}");
            });
        }
    });
}
