//! The four clients pull images of real software and run it.

use crate::{backend, dockerd};
use firn_tests::{containerd::Containerd, podman::Podman, program::Finished, skopeo};
use tempfile::TempDir;

/// Images, a command for each, and what it says.
const IMAGES: [(&str, &[&str], &str); 5] = [
    ("hello", &["hello"], "Hello, world!"),
    ("shell/jq", &["jq", "--null-input", "[1, 2, 3] | map(. * 7) | add"], "42"),
    ("shell/git/curl", &["bash", "-c", "git --version && curl --version"], "libcurl/"),
    (
        "shell/python3",
        &[
            "python3",
            "-c",
            "import hashlib, json; print(json.dumps(hashlib.sha256(b'firn').hexdigest()[:12]))",
        ],
        "\"",
    ),
    ("nginx", &["nginx", "-v"], "nginx version: nginx/1."),
];

fn pulls_and_runs(mut run: impl FnMut(&str, &[&str]) -> Finished) {
    for (name, command, expect) in IMAGES {
        let image = format!("{}/{name}:latest", backend().address());
        let finished = run(&image, command);
        assert!(finished.status == 0 && finished.all().contains(expect), "{name}: {finished:?}");
    }
}

#[test]
fn docker() {
    pulls_and_runs(|image, command| {
        dockerd().pull(image);
        dockerd().run(&[], image, command)
    });
}

#[test]
fn podman() {
    let podman = Podman::new();
    pulls_and_runs(|image, command| {
        podman.pull(image);
        podman.run(&[], image, command)
    });
}

#[test]
fn containerd() {
    let containerd = Containerd::start();
    let mut containers = 0;
    pulls_and_runs(|image, command| {
        containers += 1;
        containerd.pull(image);
        containerd.run(&[], image, &format!("container-{containers}"), command)
    });
}

/// skopeo has no containers; it reads what it has copied, which its library verifies.
#[test]
fn skopeo_copies() {
    let dir = TempDir::new().expect("a temporary directory");
    for (name, _, _) in IMAGES {
        let to = format!("oci:{}:{}", dir.path().display(), name.replace('/', "-"));
        skopeo::copy(backend().address(), name, &to);
        let inspected = skopeo::skopeo(&["inspect", "--config", &to]).succeeded();
        assert!(inspected.contains("org.opencontainers.image.title"), "{name}: {inspected}");
    }
    // Also in the format of clients that know Docker's alone.
    let to = format!("docker-archive:{}/archive.tar:firn/hello:latest", dir.path().display());
    skopeo::copy(backend().address(), "hello", &to);
}

/// What is in the client already is not fetched again, and what was deleted is.
#[test]
fn docker_pulls_again_after_removing() {
    let image = format!("{}/which", backend().address());
    dockerd().pull(&image);
    let id = |output: Finished| output.succeeded();
    let inspect = ["image", "inspect", "--format", "{{.Id}} {{json .RepoDigests}}", &image];
    let first = id(dockerd().docker(&inspect));
    dockerd().docker(&["rmi", &image]).succeeded();
    dockerd().docker(&inspect).failed();
    dockerd().pull(&image);
    assert_eq!(id(dockerd().docker(&inspect)), first);
    // A digest that docker shows can be pulled too.
    let digest = first.split_once('@').and_then(|(_, rest)| rest.split_once('"')).expect("a digest").0;
    dockerd().pull(&format!("{image}@{digest}"));
}
