//! The four clients pull images of real software and run it.

use crate::{backend, dockerd};
use firn_tests::{
    backend::Backend, containerd::Containerd, dockerd::Dockerd, package_set, podman::Podman,
    program::Finished, registry::Registry, skopeo,
};
use serde_json::Value;
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

const GIT: &[&str] = &["git", "--version"];

const USERS: [&str; 2] = ["0", "1000"];

/// Pulls each image and runs its command as each user.
fn pulls_and_runs(
    address: &str,
    users: &[&str],
    pull: impl Fn(&str),
    run: impl Fn(&str, &str, &[&str]) -> Finished,
) {
    for (name, command, expect) in IMAGES {
        let image = format!("{address}/{name}:latest");
        pull(&image);
        for user in users {
            let finished = run(user, &image, command);
            let all_right = finished.status == 0 && finished.all().contains(expect);
            assert!(all_right, "{name} as {user}: {finished:?}");
        }
    }
}

/// With a Docker daemon that other tests use too.
pub(crate) fn docker_runs(address: &str) {
    pulls_and_runs(
        address,
        &USERS,
        |image| dockerd().pull(image),
        |user, image, command| dockerd().run(&["--user", user], image, command),
    );
}

/// With a podman for this test.
pub(crate) fn podman_runs(address: &str) {
    let podman = Podman::new();
    pulls_and_runs(
        address,
        &USERS,
        |image| podman.pull(image),
        |user, image, command| podman.run(&["--user", user], image, command),
    );
}

/// With a containerd for this test. Unlike the others, it does not come back after a 429, so the images are requested
/// before.
pub(crate) fn containerd_runs(address: &str) {
    let registry = Registry::at(address);
    let containerd = Containerd::start();
    pulls_and_runs(
        address,
        // This `ctr` has no option for another user.
        &["0"],
        |image| {
            let name = image.trim_start_matches(address).trim_matches('/').trim_end_matches(":latest");
            registry.built(name, "latest");
            containerd.pull(image);
        },
        |_, image, command| containerd.run(&[], image, command),
    );
}

#[test]
fn docker() {
    docker_runs(backend().address());
}

#[test]
fn podman() {
    podman_runs(backend().address());
}

#[test]
fn containerd() {
    containerd_runs(backend().address());
}

/// skopeo runs no containers. It reads back what it has copied, and its library verifies that.
pub(crate) fn copies(address: &str) {
    let dir = TempDir::new().expect("a temporary directory");
    for (name, _, _) in IMAGES {
        let to = format!("oci:{}:{}", dir.path().display(), name.replace('/', "-"));
        skopeo::copy(address, name, &to);
        let inspected = skopeo::skopeo(&["inspect", "--config", &to]).succeeded();
        assert!(inspected.contains("org.opencontainers.image.title"), "{name}: {inspected}");
    }
    // Also in the format for clients that know only Docker's.
    let to = format!("docker-archive:{}/archive.tar:firn/hello:latest", dir.path().display());
    skopeo::copy(address, "hello", &to);
}

#[test]
fn skopeo_copies() {
    copies(backend().address());
}

/// Docker and containerd start pigz if it is installed, as it is for the other tests. Otherwise they use Go's
/// library.
#[test]
fn go_reads_gzip_where_there_is_no_pigz() {
    let image = format!("{}/shell/git:latest", backend().address());
    backend().registry().built("shell/git", "latest");
    let (docker, containerd) = (Dockerd::without_pigz(), Containerd::without_pigz());
    docker.pull(&image);
    containerd.pull(&image);
    for said in [docker.run(&[], &image, GIT), containerd.run(&[], &image, GIT)] {
        assert!(said.succeeded().starts_with("git version 2."));
    }
}

/// Clients that fetch files only when they are read need other layers. The Stargz Snapshotter's own tool converts
/// these layers: it has to read their many members, and changes their order.
#[test]
fn images_can_be_converted_for_lazy_pulling() {
    let containerd = Containerd::start();
    let image = format!("{}/jq:latest", backend().address());
    backend().registry().built("jq", "latest");
    containerd.pull(&image);
    for (format, annotation) in [
        ("estargz", "containerd.io/snapshot/stargz/toc.digest"),
        ("zstdchunked", "io.containers.zstd-chunked.manifest-checksum"),
    ] {
        let converted = format!("firn.test/{format}:latest");
        let options = ["images", "convert", &format!("--{format}"), "--oci", "--estargz-compression-level=1"];
        let digest = containerd.ctr_remote(&[options.as_slice(), &[&image, &converted]].concat()).succeeded();
        let manifest = containerd.ctr(&["content", "get", &digest]).succeeded();
        let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
        let layers = manifest["layers"].as_array().expect("layers");
        assert!(layers.iter().all(|layer| layer["annotations"][annotation].is_string()), "{manifest:#}");
        let said = containerd.run(&[], &converted, &["jq", "--null-input", "6 * 7"]);
        assert_eq!(said.succeeded().trim(), "42", "{format}");
    }
}

/// Docker does not fetch what it has already, and fetches again what was deleted.
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

/// Layers in zstd: three clients read them. Docker 20.10 accepts the manifest, takes the layers for plain tars, and
/// says only this. Nothing that a registry sends could make it state the reason.
#[test]
fn zstd_for_those_that_know_it() {
    let backend = Backend::serving(package_set::bundled()).env("FIRN_COMPRESSION", "zstd").start();
    let address = backend.address();
    backend.registry().built("shell/jq", "latest");
    let image = format!("{address}/shell/jq:latest");
    let command = ["jq", "--null-input", "6 * 7"];

    let dir = TempDir::new().expect("a temporary directory");
    skopeo::copy(address, "shell/jq", &format!("oci:{}:jq", dir.path().display()));
    let podman = Podman::new();
    podman.pull(&image);
    assert_eq!(podman.run(&[], &image, &command).succeeded().trim(), "42");
    let containerd = Containerd::start();
    containerd.pull(&image);
    assert_eq!(containerd.run(&[], &image, &command).succeeded().trim(), "42");

    // Docker does not fetch a layer if it has the contents already, however they are compressed. No other test pulls
    // this image.
    let said = dockerd().docker(&["pull", &format!("{address}/user/jq/nano")]).failed();
    assert!(said.contains("invalid tar header"), "{said}");
}

/// A client that pushes is told why it cannot.
#[test]
fn pushes_are_refused_with_the_reason() {
    let address = backend().address().to_owned();
    let (image, other) = (format!("{address}/hello"), format!("{address}/mine"));
    let podman = Podman::new();
    podman.pull(&image);
    dockerd().pull(&image);
    dockerd().docker(&["tag", &image, &other]).succeeded();
    let (from, to) = (format!("docker://{image}"), format!("docker://{other}"));
    let copy = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to];
    for said in [
        dockerd().docker(&["push", &other]).failed(),
        podman.podman(["push", "--tls-verify=false", &image, &other]).failed(),
        skopeo::skopeo(&copy).failed(),
    ] {
        assert!(said.contains("images are made on request and cannot be pushed"), "{said}");
    }
}
