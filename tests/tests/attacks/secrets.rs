//! Package code looks for the registry's secrets, and strangers for what a registry shows without being asked who they
//! are.

use firn_shared::authentication::{HEADER, Secret};
use firn_tests::{
    backend::{Backend, command},
    registry::ACCEPT,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A secret, in two parts: whole it is in no expression, and so in the environment of no builder.
const SECRET: [&str; 2] = ["hunter2-", "correct-horse"];

/// Packages that look for secrets, each in its own way; others for each `salt` and time.
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

/// What the edge would send.
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
    // Without isolation, Firn's processes are there to be seen; its environment holds no secret even so.
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
    assert_eq!(open.logged("everybody who reaches this address is answered"), 1, "{}", open.log());
    let local = Backend::serving_expression("{ ... }: { }").start();
    assert_eq!(local.logged("everybody who reaches this address"), 0);
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
