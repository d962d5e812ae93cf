//! Whatever a client requests, the answer says what is wrong: an error of the registry API with a 4xx status, in
//! limited time. The server keeps serving.

use crate::{backend, dockerd};
use firn_tests::{
    backend::Backend,
    package_set,
    registry::error_of,
    service,
    wait::{LONG, until},
};
use tempfile::TempDir;

/// Names, the error's code, and words of its message.
const NAMES: [(&str, &str, &[&str]); 27] = [
    // Not in the package set.
    ("gti", "NAME_UNKNOWN", &["gti", "did you mean git?"]),
    ("shell/helo", "NAME_UNKNOWN", &["helo", "did you mean", "hello"]),
    ("qqqqqqqq", "NAME_UNKNOWN", &["there is no package qqqqqqqq"]),
    ("python3packages.requets", "NAME_UNKNOWN", &["did you mean", "requests"]),
    ("git.nothing", "NAME_UNKNOWN", &["git.nothing"]),
    ("git/gti/helo", "NAME_UNKNOWN", &["gti", "helo"]),
    // In the set, but unavailable.
    ("unfree-hello", "MANIFEST_UNKNOWN", &["unfree-hello", "unfree"]),
    ("broken-hello", "MANIFEST_UNKNOWN", &["broken-hello", "broken"]),
    ("insecure-hello", "MANIFEST_UNKNOWN", &["insecure-hello", "CVE-2024-0000"]),
    ("unsupported-hello", "MANIFEST_UNKNOWN", &["unsupported-hello"]),
    ("depends-on-unfree", "MANIFEST_UNKNOWN", &["depends-on-unfree"]),
    ("arm64/hello", "MANIFEST_UNKNOWN", &["hello"]),
    ("twincase", "MANIFEST_UNKNOWN", &["twinCase", "TwinCase"]),
    ("fails-to-build", "MANIFEST_UNKNOWN", &["fails-to-build"]),
    ("git/depends-on-failing", "MANIFEST_UNKNOWN", &["depends-on-failing"]),
    // Not a package.
    ("python3packages", "MANIFEST_UNKNOWN", &["python3packages"]),
    ("lib", "MANIFEST_UNKNOWN", &["lib"]),
    ("callpackage", "MANIFEST_UNKNOWN", &["callpackage"]),
    ("version", "MANIFEST_UNKNOWN", &["version"]),
    ("lib.version", "MANIFEST_UNKNOWN", &["lib.version"]),
    // Evaluation fails.
    ("throws", "MANIFEST_UNKNOWN", &["throws"]),
    ("hazards.missing-attribute", "MANIFEST_UNKNOWN", &["hazards.missing-attribute"]),
    ("hazards.type-error", "MANIFEST_UNKNOWN", &["hazards.type-error"]),
    ("git/hazards.aborts", "MANIFEST_UNKNOWN", &["hazards.aborts"]),
    ("hazards.infinite-recursion", "MANIFEST_UNKNOWN", &["hazards.infinite-recursion"]),
    // Only meta-packages.
    ("arm64", "NAME_INVALID", &["no package"]),
    ("arm64/amd64/hello", "NAME_INVALID", &["two platforms"]),
];

/// What answers must not contain: paths of this machine, Nix's own words, and a program's words when it crashes.
const INTERNALS: [&str; 6] = ["/nix/store", ".nix:", "at /", "while evaluating", "panicked", "/tmp/"];

fn check_message(name: &str, message: &str) {
    for internal in INTERNALS {
        assert!(!message.contains(internal), "{name}: {message:?} shows {internal:?}");
    }
}

#[test]
fn images_that_cannot_be_had() {
    let registry = backend().registry();
    for (name, code, says) in NAMES {
        let answer = registry.settled(name, "latest");
        let (actual, message) = answer.error();
        assert!((400..500).contains(&answer.status), "{name}: {}: {message}", answer.status);
        assert_eq!(actual, code, "{name}: {message}");
        for text in says {
            assert!(message.contains(text), "{name}: {message:?} does not say {text:?}");
        }
        check_message(name, &message);
    }
    // A package's failure does not affect others.
    assert_eq!(registry.built("git", "latest").status, 200);
}

#[test]
fn evaluations_that_never_end() {
    let backend = Backend::serving(package_set::bundled()).args(&["--eval-timeout", "6"]).start();
    for name in ["hazards.endless", "hazards.hungry"] {
        let answer = backend.registry().settled(name, "latest");
        let (_, message) = answer.error();
        assert!((400..500).contains(&answer.status), "{name}: {}: {message}", answer.status);
        assert!(message.contains(name), "{message}");
        check_message(name, &message);
    }
    assert!(!service::session_runs(backend.process(), "nix-instantiate"), "nothing goes on evaluating");
    assert_eq!(backend.registry().built("hello", "latest").status, 200);
}

/// Docker shows its user the message of a 4xx answer.
#[test]
fn docker_shows_the_message() {
    let pull = |name: &str| dockerd().docker(&["pull", &format!("{}/{name}", backend().address())]).failed();
    let said = pull("gti");
    assert!(said.contains("did you mean git?"), "{said}");
    let said = pull("unfree-hello");
    assert!(said.contains("unfree"), "{said}");
    let said = pull("fails-to-build");
    assert!(said.contains("fails-to-build"), "{said}");
}

/// Names that try to be something else, sent unchanged, as no HTTP library would.
#[test]
fn hostile_names() {
    let registry = backend().registry();
    let long = "a".repeat(10_000);
    let many = "a/".repeat(5_000);
    let deep = format!("a{}", ".a".repeat(126));
    // With these names the request is valid HTTP, and the answer is an error of the registry API.
    let readable = [
        "--option",
        "-rf",
        "..",
        "../../etc/passwd",
        "a/../b",
        "a//b",
        "/a",
        "a/",
        ".git",
        "git.",
        "_git",
        "git_",
        "git___git",
        "git..git",
        "$(id)",
        "${builtins.abort(1)}",
        "\"git\"",
        "'git'",
        "`id`",
        "git;id",
        "git|id",
        "git&id",
        "%00",
        "%2e%2e/%2e%2e",
        "git%0aX-Injected:1",
        "%F0%9F%98%80",
        "g%D1%96t",
        "GIT",
        "Shell/git",
        "git@sha256",
        "git:latest",
        "a%20b",
        "{git}",
        "[git]",
        "a\\b",
        "~root",
        "*",
        "<git>",
        "builtins.getenv",
        "git%2flatest",
        "%",
        "%zz",
        "@",
        "shell/--help",
        "a.b.c.d.e.f.g.h",
        &long,
        &many,
        &deep,
    ];
    for name in readable {
        let request =
            format!("GET /v2/{name}/manifests/latest HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let shown = &name[..name.len().min(60)];
        // Some may be names of packages. Only Nix can tell.
        let (status, body) = until(&format!("{shown} is answered"), LONG, || {
            let answer = registry.raw(request.as_bytes());
            (answer.0 != 429).then_some(answer)
        });
        assert!((400..500).contains(&status), "{shown}: {status} {body}");
        // The limits and parsers of HTTP may refuse a request before it reaches the registry.
        if status != 414 && status != 431 && !body.is_empty() {
            check_message(shown, &error_of(&body).1);
        } else {
            assert!(
                name.bytes().any(|byte| !byte.is_ascii_graphic() || b"\"<>\\^`{|}[]%".contains(&byte))
                    || name.len() > 4096,
                "{shown}: {status} without an error"
            );
        }
    }
    // With these names it is not even HTTP.
    for name in ["a b", "git\r\nX-Injected: 1", "\0", "\u{202e}git", "gіt", "git\u{7f}", "\x1b[31m"] {
        let mut request = b"GET /v2/".to_vec();
        request.extend(name.as_bytes());
        request.extend(b"/manifests/latest HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let (status, _) = registry.raw(&request);
        assert!((400..500).contains(&status), "{name:?}: {status}");
    }
    // None of them has reached Nix or done any harm.
    assert_eq!(registry.built("hello", "latest").status, 200);
    assert_eq!(backend().logged("panicked"), 0, "{}", backend().log());
}

/// The same for tags and digests.
#[test]
fn hostile_references() {
    let registry = backend().registry();
    let long = "a".repeat(129);
    for reference in [
        "..",
        "-x",
        "a%2fb",
        "%00",
        "latest%0a",
        "sha256:",
        "sha256:../../etc/passwd",
        "sha512:00",
        &long,
        "refs%2fheads%2fmain",
    ] {
        let request =
            format!("GET /v2/hello/manifests/{reference} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let (status, body) = registry.raw(request.as_bytes());
        assert!(status == 400 || status == 404, "{reference}: {status} {body}");
        check_message(reference, &error_of(&body).1);
    }
}

/// A package set that does not load is the operator's problem: no message blames a package, and it works again once
/// it is corrected.
#[test]
fn package_sets_that_do_not_load() {
    let place = TempDir::new().expect("a temporary directory");
    let dir = place.path().join("set");
    for broken in
        ["{ system, ... }: throw \"melted\"", "{ system, ... }: {", "{ system, ... }: 42", "{ nothing }: { }"]
    {
        package_set::write(&dir, broken);
        let backend = Backend::serving(&dir).start();
        let answer = backend.registry().settled("greeting", "latest");
        let (code, message) = answer.error();
        assert_eq!((answer.status, code.as_str()), (503, "UNAVAILABLE"), "{broken}: {message}");
        check_message(broken, &message);
        package_set::write(&dir, &package_set::small("mended"));
        until("the package set is loaded anew", LONG, || {
            (backend.registry().settled("greeting", "latest").status == 200).then_some(())
        });
    }
}
