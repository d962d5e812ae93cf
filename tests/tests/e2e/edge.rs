//! The whole way: client, edge in workerd, backend, Nix, container.

use crate::{clients, dockerd};
use firn_shared::{
    link::authentication::{HEADER, Secret, WINDOW_SECONDS},
    oci::digest::Digest,
};
use firn_tests::{
    backend::Backend,
    gates::Gates,
    image::Image,
    package_set,
    registry::ACCEPT,
    skopeo,
    wait::{LONG, until},
    wrangler::{SECRET, Wrangler},
};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

fn backend() -> Backend {
    Backend::serving(package_set::bundled()).env("FIRN_SECRET", SECRET).start()
}

/// An edge and the backend behind it.
fn edge() -> &'static Wrangler {
    static PAIR: OnceLock<(Backend, Wrangler)> = OnceLock::new();
    let start = || {
        let backend = backend();
        let edge = Wrangler::start(&backend);
        (backend, edge)
    };
    &PAIR.get_or_init(start).1
}

#[test]
fn docker_pulls_through_the_edge() {
    clients::docker_runs(edge().address());
}

#[test]
fn podman_pulls_through_the_edge() {
    clients::podman_runs(edge().address());
}

#[test]
fn containerd_pulls_through_the_edge() {
    clients::containerd_runs(edge().address());
}

#[test]
fn skopeo_copies_through_the_edge() {
    clients::copies(edge().address());
}

/// The edge passes on what the backend has made, byte for byte, and every blob is where the edge says.
#[test]
fn the_edge_serves_what_the_backend_serves() {
    let through = Image::pull(&edge().registry(), "shell/jq");
    through.layers(&edge().registry());
    assert_eq!(through.digests(), Image::pull(&crate::backend().registry(), "shell/jq").digests());
}

/// The second pull of an image does not involve the backend: the edge answers even if there is no backend.
#[test]
fn a_second_pull_needs_no_backend() {
    let mut backend = backend();
    let edge = Wrangler::start(&backend);
    let registry = edge.registry();
    let path = "/v2/hello/manifests/latest";
    registry.built("hello", "latest");
    // The edge fills its caches after it has answered.
    let second = until("the edge remembers", LONG, || {
        let answer = registry.request("GET", path, &ACCEPT);
        matches!(answer.header("x-firn-source"), Some("kv" | "cache")).then_some(answer)
    });
    backend.stop();
    let third = registry.request("GET", path, &ACCEPT);
    assert_eq!((third.status, &third.body), (200, &second.body));
    let digest = third.header("docker-content-digest").expect("a digest");
    assert_eq!(registry.get(&format!("/v2/hello/manifests/{digest}")).body, second.body);
    let head = registry.request("HEAD", path, &ACCEPT);
    assert_eq!(head.header("content-length"), Some(second.body.len().to_string().as_str()));
    assert_eq!(head.header("docker-content-digest"), Some(digest));
    // An image that is not cached needs a backend. The answer says that there is none.
    let (code, _) = registry.manifest("jq").error();
    assert_eq!(code, "UNAVAILABLE");
}

/// Real clients log in. What they pull from a private edge, they pull from the backend behind it.
#[test]
fn clients_log_in_to_a_private_edge() {
    let backend = backend();
    let edge = Wrangler::with(&backend, "FIRN_ACCESS=private\nFIRN_USERS=ann:secret bob:word\n");
    let (address, image) = (edge.address(), format!("{}/hello", edge.address()));
    dockerd().docker(&["pull", &image]).failed();
    dockerd().docker(&["login", "--username=ann", "--password=guess", address]).failed();
    dockerd().docker(&["login", "--username=ann", "--password=secret", address]).succeeded();
    dockerd().pull(&image);
    dockerd().docker(&["logout", address]).succeeded();
    dockerd().docker(&["pull", &image]).failed();
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let (from, to) = (format!("docker://{image}"), format!("oci:{}", dir.path().display()));
    let copy = |more: &[&str]| {
        skopeo::skopeo(&[&["copy", "--quiet", "--src-tls-verify=false"], more, &[&from, &to]].concat())
    };
    copy(&[]).failed();
    copy(&["--src-creds=bob:word"]).succeeded();
}

#[test]
fn the_edge_passes_errors_on_unchanged() {
    let registry = edge().registry();
    for (name, status, code, says) in [
        ("gti", 404, "NAME_UNKNOWN", "did you mean git?"),
        ("unfree-hello", 404, "MANIFEST_UNKNOWN", "unfree"),
        ("arm64", 400, "NAME_INVALID", "no package"),
        ("GIT", 400, "NAME_INVALID", "GIT"),
    ] {
        let answer = registry.settled(name, "latest");
        let (actual, message) = answer.error();
        assert_eq!((answer.status, actual.as_str()), (status, code), "{name}: {message}");
        assert!(message.contains(says), "{name}: {message}");
    }
    let said = dockerd().docker(&["pull", &format!("{}/gti", edge().address())]).failed();
    assert!(said.contains("did you mean git?"), "{said}");
}

/// Only the edge gets an answer from a backend that has a secret.
#[test]
fn the_backend_answers_nobody_else() {
    let backend = backend();
    for path in ["/v2/hello/manifests/latest", "/v2/hello/tags/list", "/tags/latest"] {
        let answer = backend.registry().get(path);
        assert_eq!((answer.status, answer.error().0.as_str()), (403, "DENIED"), "{path}");
    }
    // A signed request can be repeated for five minutes, but not changed.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let path = format!("/v2/hello/referrers/{}", Digest::of(b"hello"));
    let path = path.as_str();
    for (method, signed, time, status) in [
        ("GET", path, now, 200),
        ("GET", path, now - WINDOW_SECONDS - 600, 403),
        ("GET", path, now + WINDOW_SECONDS + 600, 403),
        ("HEAD", path, now, 403),
        ("GET", "/v2/jq/tags/list", now, 403),
    ] {
        let proof = Secret::new(SECRET).sign(method, signed, time);
        let answer = backend.registry().request("GET", path, &[(HEADER, &proof)]);
        assert_eq!(answer.status, status, "{method} {signed} at {time}");
    }
}

/// A build that takes long is answered with 429 through the edge too. The edge serves the build's page.
#[test]
fn a_build_is_watched_through_the_edge() {
    let gates = Gates::new();
    let backend = Backend::serving_expression(&gates.package_set());
    let backend = backend.env("FIRN_SECRET", SECRET).args(&["--wait", "2"]).start();
    let edge = Wrangler::start(&backend);
    let registry = edge.registry();
    let answer = registry.manifest("gated-1");
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    let (_, message) = answer.error();
    let page = message.rsplit(' ').next().expect("an address");
    let page =
        page.strip_prefix(&format!("http://{}", edge.address())).unwrap_or_else(|| panic!("{message}"));
    let shown = registry.request("GET", page, &[("accept", "application/json")]);
    assert_eq!((shown.status, shown.json()["image"].as_str()), (200, Some("gated-1")));
    assert_eq!(backend.registry().get(page).status, 403, "the backend shows it to the edge alone");
    gates.open_all("gated-1");
    assert_eq!(registry.built("gated-1", "latest").status, 200);
}
