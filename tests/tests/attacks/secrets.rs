//! Package code looks for the registry's secrets, and strangers look for what a registry shows without
//! authentication.

use firn_shared::link::authentication::{HEADER, Secret};
use firn_tests::{
    backend::{Backend, command},
    git::Repository,
    nix,
    registry::ACCEPT,
};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// A secret in two parts. The whole secret is in no expression, and therefore in no builder's environment.
const SECRET: [&str; 2] = ["hunter2-", "correct-horse"];

/// Packages that look for secrets, each in its own way. They differ for each `salt` and time.
fn set(salt: &str) -> String {
    let [one, two] = SECRET;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    format!(
        r#"{{ system, config, ... }}:
let
  build = name: script: derivation {{
    inherit name system;
    builder = "/bin/bash";
    args = [ "-c" (script + "\nmkdir -p $out; exit 0") ];
    PATH = "/usr/bin:/bin";
    one = "{one}";
    two = "{two}";
    salt = "{salt} {now}";
  }};
in
{{
  variable = throw "it is ‘${{builtins.getEnv "FIRN_SECRET"}}${{builtins.getEnv "AWS_SECRET_ACCESS_KEY"}}’";
  unfree =
    if builtins.getEnv "NIXPKGS_ALLOW_UNFREE" == "1" then build "unfree" "" else throw "not allowed here";
  environment = build "environment" ''grep -qsa "$one$two" /proc/[0-9]*/environ && exit 1'';
  processes = build "processes" ''grep -qsa "/fir[n].*serv[e]" /proc/[0-9]*/cmdline && exit 1'';
  files = build "files" ''ls ${{toString ./.}}/../data/staging && exit 1'';
}}
"#
    )
}

fn secret() -> String {
    SECRET.concat()
}

/// The header that the edge would send.
fn signed(path: &str) -> (String, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    (HEADER.to_owned(), Secret::new(secret()).sign("GET", path, now))
}

fn ask(backend: &Backend, name: &str) -> (u16, String) {
    let path = format!("/v2/{name}/manifests/latest");
    let (header, proof) = signed(&path);
    let headers: Vec<(&str, &str)> = ACCEPT.into_iter().chain([(&*header, &*proof)]).collect();
    let answer = backend.registry().request("GET", &path, &headers);
    (answer.status, answer.text())
}

#[test]
fn package_code_sees_no_secrets() {
    let serve = |isolation: &str| {
        Backend::serving_expression(&set(isolation))
            .args(&["--isolation", isolation])
            .env("FIRN_SECRET", &secret())
            .env("AWS_SECRET_ACCESS_KEY", &secret())
            .env("NIXPKGS_ALLOW_UNFREE", "1")
            .start()
    };
    let backend = serve("always");
    let (status, text) = ask(&backend, "variable");
    assert_eq!(status, 404);
    assert!(text.contains("it is ‘’") && !text.contains(&secret()), "{text}");
    assert_eq!(ask(&backend, "unfree").0, 404);
    for name in ["environment", "processes", "files"] {
        assert_eq!(ask(&backend, name).0, 200, "{name}: {}", backend.log());
    }
    assert!(!backend.log().contains(&secret()));
    // Without isolation, Firn's processes are visible. Even so, its environment has no secret.
    let backend = serve("never");
    assert_eq!(ask(&backend, "environment").0, 200);
    assert_eq!(ask(&backend, "processes").0, 404);
}

#[test]
fn strangers_choose_no_commit_where_nix_is_not_kept_apart() {
    let data = tempfile::tempdir().expect("a directory");
    let finished =
        command(&["serve", "--pkgs-repo", "file:///none", "--revisions", "any", "--isolation", "never"])
            .env("FIRN_DATA", data.path())
            .limit(Duration::from_secs(60))
            .run();
    assert_eq!(finished.status, 2, "{finished:?}");
    assert!(finished.stderr.contains("install bubblewrap"), "{finished:?}");
}

#[test]
fn an_empty_secret_opens_nothing() {
    let set = firn_tests::package_set::bundled().display().to_string();
    for name in ["FIRN_SECRET", "FIRN_METRICS_TOKEN"] {
        let finished = command(&["serve", "--pkgs-path", &set, "--listen", "127.0.0.1:0"])
            .env(name, "")
            .limit(Duration::from_secs(60))
            .run();
        assert_eq!(finished.status, 2, "{finished:?}");
        assert!(finished.stderr.contains(&format!("{name} is empty")), "{finished:?}");
    }
    let open = Backend::serving_expression("{ ... }: { }").env("PORT", "0").start();
    assert_eq!(open.logged("every client that reaches this address is answered"), 1, "{}", open.log());
    let local = Backend::serving_expression("{ ... }: { }").start();
    assert_eq!(local.logged("every client that reaches this address"), 0);
}

#[test]
fn behind_a_secret_nothing_is_public() {
    let backend = Backend::serving_expression(&firn_tests::package_set::small("x"))
        .env("FIRN_SECRET", &secret())
        .env("FIRN_METRICS_TOKEN", "t0ken")
        .start();
    assert_eq!(ask(&backend, "greeting").0, 200);
    let registry = backend.registry();
    let manifest: serde_json::Value = serde_json::from_str(&ask(&backend, "greeting").1).expect("JSON");
    let path = format!("/v2/greeting/blobs/{}", manifest["config"]["digest"].as_str().expect("a digest"));
    assert_eq!(registry.request("GET", &path, &[]).status, 403);
    let (header, proof) = signed(&path);
    let blob = registry.request("GET", &path, &[(&*header, &*proof)]);
    assert_eq!(blob.header("cache-control"), Some("private, max-age=31536000, immutable, no-transform"));
    for (authorization, expect) in [
        ("", 403),
        ("Bearer t0keN", 403),
        ("Bearer t0ken2", 403),
        ("Basic t0ken", 403),
        ("Bearer t0ken", 200),
    ] {
        let answer = registry.request("GET", "/metrics", &[("authorization", authorization)]);
        assert_eq!(answer.status, expect, "{authorization}");
    }
    assert_eq!(registry.request("GET", "/metrics", &[]).status, 403);
}

/// The messages for an expression that fails, for one that is restricted, and for a whole restricted set.
const FAILS: &str = "its expression in the package set fails to evaluate";
const RESTRICTED: &str = "evaluating its expression reads files outside the package set or downloads something, which \
                          this registry allows only at the revision that the tag latest names";
const SET_RESTRICTED: &str = "at this revision the package set reads files outside of it or downloads something while it \
                              is evaluated, which this registry allows only at the revision that the tag latest names";

/// Ways in which an expression may reach files outside its package set, each with the expected message. `OUT` is a
/// folder outside, with the file `file`, a flake and a repository. The link `out` in the package set leads there.
const WAYS_OUT: [(&str, &str, &str); 20] = [
    ("reads", r#"builtins.readFile "OUT/file""#, RESTRICTED),
    ("follows", "builtins.readFile ./out/file", RESTRICTED),
    ("lists", "toString (builtins.attrNames (builtins.readDir OUT))", RESTRICTED),
    ("listslink", "toString (builtins.attrNames (builtins.readDir ./out))", RESTRICTED),
    ("beside", "builtins.readFile ../date", RESTRICTED),
    ("imports", "toString (import OUT)", RESTRICTED),
    ("scoped", "toString (builtins.scopedImport { } OUT)", RESTRICTED),
    ("copies", r#""${OUT/file}""#, RESTRICTED),
    ("filters", "builtins.filterSource (path: type: true) OUT", RESTRICTED),
    ("paths", r#"builtins.path { path = OUT; name = "x"; }"#, RESTRICTED),
    ("hashes", r#"builtins.hashFile "sha256" OUT/file"#, RESTRICTED),
    (
        "finds",
        r#"builtins.readFile (builtins.findFile [ { path = "OUT"; prefix = ""; } ] "file")"#,
        RESTRICTED,
    ),
    ("downloads", r#"builtins.readFile (builtins.fetchurl "http://127.0.0.1:1/x")"#, RESTRICTED),
    ("fetchesfile", r#"builtins.readFile (builtins.fetchurl "file://OUT/file")"#, RESTRICTED),
    ("unpacks", r#"builtins.fetchTarball "http://127.0.0.1:1/x.tar.gz""#, RESTRICTED),
    ("clones", r#"(builtins.fetchGit "file://OUT/repository").outPath"#, RESTRICTED),
    ("clonesssh", r#"(builtins.fetchGit "ssh://git@127.0.0.1:1/x").outPath"#, RESTRICTED),
    // No Nix restricts the first of these, and not every Nix the second.
    ("flake", r#"(builtins.getFlake "path:OUT").outPath"#, FAILS),
    ("tree", r#"(builtins.fetchTree { type = "path"; path = "OUT"; }).outPath"#, FAILS),
    ("lookup", r#"builtins.readFile <outside/file>"#, FAILS),
];

/// Ways that reveal nothing about files outside.
const DEAD_ENDS: [(&str, &str); 3] = [
    ("exists", "if builtins.pathExists OUT then throw \"it is there\" else \"\""),
    ("existslink", "if builtins.pathExists ./out/file then throw \"it is there\" else \"\""),
    (
        "variable",
        "if builtins.getEnv \"PATH\" != \"\" then throw \"it is set\" else builtins.readFile ./inside",
    ),
];

/// A package for each way. If it can read the file, its error message contains what it found.
fn ways(outside: &Path, salt: &str) -> String {
    let make = |(name, expression): (&str, &str)| {
        format!(
            "  {name} = let found = {expression}; in make \"{name}\" (builtins.seq (tell found) found);\n"
        )
    };
    let all = WAYS_OUT.into_iter().map(|(name, expression, _)| (name, expression)).chain(DEAD_ENDS);
    let packages: String = all.map(make).collect();
    format!(
        r#"{{ system, ... }}: let
  tell = found: if found == "" || found == "inside\n" then null else throw "found ‘${{found}}’";
  make = name: found: derivation {{
    inherit name system found;
    builder = "/bin/bash";
    args = [ "-c" "echo > $out; exit 0" ];
    salt = "{salt}";
  }};
in {{
{packages}}}
"#
    )
    .replace("OUT", outside.to_str().expect("UTF-8"))
}

/// A repository with the package set of [`ways`] on three branches: `main`, the operator's; `same`; and `other`,
/// which has another commit. The branch `whole` cannot be loaded under restrictions, and `thrown` never can.
fn repository_with_ways_out(dir: &Path, outside: &Path, salt: &str) -> Repository {
    let repository = Repository::new(dir);
    symlink(outside, dir.join("out")).expect("a link");
    fs::write(dir.join("inside"), "inside\n").expect("written");
    repository.git(&["add", "out", "inside"]);
    repository.commit(&ways(outside, salt));
    repository.git(&["branch", "--quiet", "same"]);
    for (branch, expression) in [
        ("other", format!("# Another person's.\n{}", ways(outside, salt))),
        ("whole", format!("builtins.seq (builtins.readFile {}/file) (_: {{ }})", outside.display())),
        ("thrown", "throw \"words of a stranger\"".into()),
    ] {
        repository.git(&["checkout", "--quiet", "-b", branch, "main"]);
        repository.commit(&expression);
    }
    repository.git(&["checkout", "--quiet", "main"]);
    repository
}

#[test]
fn what_callers_choose_reads_and_downloads_nothing() {
    let dir = TempDir::new().expect("a directory");
    let outside = dir.path().join("outside");
    Repository::new(&outside.join("repository")).commit("found");
    fs::write(outside.join("file"), "found").expect("written");
    fs::write(outside.join("default.nix"), "\"found\"").expect("written");
    fs::write(outside.join("flake.nix"), "{ outputs = _: { }; }").expect("written");
    thread::scope(|scope| {
        for (i, nix) in nix::versions().into_iter().enumerate() {
            let (place, outside) = (dir.path().join(i.to_string()), &outside);
            scope.spawn(move || reads_and_downloads_nothing(&nix, &place, outside));
        }
    });
}

fn reads_and_downloads_nothing(nix: &Path, place: &Path, outside: &Path) {
    let url = repository_with_ways_out(place, outside, &place.display().to_string()).url();
    let path = format!("{}:{}", nix.display(), std::env::var("PATH").expect("$PATH is set"));
    let outside = outside.display();
    // The operator's settings for Nix in general must have no effect here.
    let config = format!(
        "{}\ndownload-attempts = 1\nnix-path = outside={outside}\nrestrict-eval = false\n",
        nix::config()
    );
    let backend = Backend::with(&["--pkgs-repo", &url]).env("PATH", &path).env("NIX_CONFIG", &config).start();
    let registry = backend.registry();
    let check = |name: &str, tag: &str, expect: &str| {
        let answer = registry.settled(name, tag);
        let (code, message) = answer.error();
        let log = backend.log();
        assert_eq!((answer.status, &*code, &*message), (404, "MANIFEST_UNKNOWN", expect), "{nix:?}\n{log}");
    };
    for (name, _, expect) in WAYS_OUT {
        check(name, "other", &format!("{name}: {expect}"));
    }
    for (name, _) in DEAD_ENDS {
        let answer = registry.settled(name, "other");
        assert_eq!(answer.status, 200, "{nix:?} {name}: {}", answer.text());
    }
    // One of them does not affect the others.
    check("exists/reads/variable", "other", &format!("reads: {RESTRICTED}"));
    // A whole set is evaluated once, however often it is requested.
    for (tag, expect) in
        [("whole", SET_RESTRICTED), ("thrown", "the package set does not load at this revision")]
    {
        check("reads", tag, expect);
        let before = backend.nix_processes();
        check("reads", tag, expect);
        assert_eq!(backend.nix_processes(), before, "{nix:?} {tag}");
    }
    // The operator's own ref is not restricted, even if a caller requested the same commit first.
    check("reads", "same", &format!("reads: {RESTRICTED}"));
    check("reads", "latest", &format!("reads: {FAILS}: found ‘found’"));
    check("reads", "same", &format!("reads: {FAILS}: found ‘found’"));
    // Neither is a revision that the operator chooses at the command line.
    let data = place.with_extension("data").display().to_string();
    let built = command(&["build", "reads", "--tag", "other", "--pkgs-repo", &url, "--data", &data]).run();
    assert!(built.failed().contains("found ‘found’"), "{nix:?}");
}
