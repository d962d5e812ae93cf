//! Images composed without the backend, from what it has published about their packages: hundreds by `firn-shared`
//! alone, and some by the edge in workerd while no backend runs.

use crate::{buckets, dockerd};
use firn_shared::{composition::ComposeError, naming::image_name::ImageName};
use firn_tests::{
    backend::{Backend, command},
    composition::{Published, combinations},
    image::Image,
    package_set,
    registry::{ACCEPT, Registry},
    s3::{BUCKET, S3},
    skopeo,
    wait::{LONG, until},
    wrangler::Wrangler,
};
use tempfile::TempDir;

pub(crate) const PACKAGES: [&str; 22] = [
    "bash",
    "busybox",
    "cacert",
    "coreutils",
    "curl",
    "git",
    "gnugrep",
    "hello",
    "htop",
    "jq",
    "less",
    "nano",
    "nginx",
    "openssl",
    "python3",
    "python3packages.requests",
    "ripgrep",
    "sqlite",
    "tmux",
    "tree",
    "wget",
    "xz",
];

/// Has each package built by itself, and a shell.
pub(crate) fn see(registry: &Registry, packages: &[&str]) {
    for package in packages {
        registry.built(package, "latest");
    }
    registry.built(&format!("shell/{}", packages[0]), "latest");
}

/// How many of these images can be composed. Each of them is identical to the backend's.
fn compose_all(registry: &Registry, names: impl Iterator<Item = ImageName>) -> usize {
    let published = Published::by(registry, "bash");
    let mut composed = 0;
    for name in names {
        let image = match published.compose(&name) {
            Ok(image) => image,
            // The image takes a step at which its packages had not been packed. Now they are. Or only the backend can
            // make it.
            Err(ComposeError::NeverPacked(..) | ComposeError::OwnLayer) => {
                registry.built(&name.to_string(), "latest");
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        composed += 1;
        let name = name.to_string();
        let built = registry.built(&name, "latest");
        assert_eq!(built.text(), String::from_utf8(image.oci.bytes).expect("JSON"), "{name}");
        let path = format!("/v2/{name}/manifests/latest");
        let docker = registry.request("GET", &path, &ACCEPT[..1]);
        assert_eq!(Some(docker.body), image.docker.map(|manifest| manifest.bytes), "{name}");
        for blob in [image.top, image.config] {
            assert_eq!(registry.get(&format!("/v2/{name}/blobs/{}", blob.digest)).body, blob.bytes, "{name}");
        }
    }
    for (package, bytes) in &*published.sizes.borrow() {
        println!("record of {package}: {bytes} bytes");
    }
    composed
}

#[test]
fn composed_images_are_the_backends() {
    let backend = Backend::start();
    let registry = backend.registry();
    see(&registry, &PACKAGES);
    assert_eq!(compose_all(&registry, combinations(&PACKAGES, 6).take(300)), 300);
}

/// With a profile, and with a budget that most images fit only at a higher step: once their packages have been in an
/// image at that step, other combinations can be composed.
#[test]
fn composed_images_with_a_profile_and_a_small_budget_are_the_backends() {
    let dir = TempDir::new().expect("a temporary directory");
    let profile = dir.path().join("profile.json").display().to_string();
    command(&["popularity", "--store", "--output", "/dev/null", "--profile", &profile]).run().succeeded();
    let backend = Backend::serving(package_set::bundled())
        .args(&["--profile", &profile, "--layer-budget", "10"])
        .start();
    let registry = backend.registry();
    let packages = ["bash", "git", "jq", "htop", "less", "tree", "hello", "curl", "xz"];
    see(&registry, &packages);
    let mut names = combinations(&packages, 4);
    let first = compose_all(&registry, names.by_ref().take(40));
    println!("{first} of the first 40 composed");
    assert!(first < 40, "no image took a step that was not packed yet");
    let second = compose_all(&registry, names.by_ref().take(160));
    println!("{second} of the next 160 composed");
    let third = compose_all(&registry, names.take(160));
    println!("{third} of the next 160 composed");
    assert!(third >= 155, "{third} of 160");
}

/// Backend and edge both leave out what a small package set lacks.
#[test]
fn optional_packages_that_are_missing_are_left_out_at_the_edge_too() {
    let set = format!(
        "{{ system, config, ... }}: {{ inherit (import {} {{ inherit system config; }}) bash coreutils jq tree; }}\n",
        package_set::bundled().display()
    );
    let backend = Backend::serving_expression(&set).start();
    let registry = backend.registry();
    see(&registry, &["bash", "jq", "tree"]);
    let names = ["shell/jq", "shell/jq/tree", "user/shell/tree"].map(|name| name.parse().expect("a name"));
    assert_eq!(compose_all(&registry, names.into_iter()), 3);
    let published = Published::by(&registry, "bash");
    let debug = published.compose(&"debug/jq".parse().expect("a name"));
    assert!(matches!(debug, Err(ComposeError::Unknown(_))), "debug was not requested yet: {debug:?}");
    // A made-up name leaves no record.
    assert_eq!(registry.manifest("jq/made-up").status, 404);
    let made_up = published.compose(&"made-up".parse().expect("a name"));
    assert!(matches!(made_up, Err(ComposeError::Unknown(_))), "{made_up:?}");
}

/// Layers that depend on the image cannot be known before the image is built.
#[test]
fn nothing_is_published_for_popularity() {
    let backend = Backend::serving(package_set::bundled()).args(&["--strategy", "popularity"]).start();
    backend.registry().built("jq", "latest");
    assert!(!backend.data().join("storage/composition").exists());
}

/// The edge has the packages' records and serves an image that was never requested, although no backend runs. docker
/// pulls and runs it.
#[test]
fn new_combinations_need_no_backend() {
    // Layers, and the blobs of composed images, are in a bucket.
    let s3 = S3::start();
    let start = || buckets::backend(&s3, &format!("s3://{BUCKET}"));
    let mut backend = start();
    let packages = ["git", "jq", "tree", "htop", "hello", "less"];
    let edge = Wrangler::with(&backend, &s3.edge_variables(""));
    let registry = edge.registry();
    see(&registry, &packages);
    // The edge fetches the records after it has answered. It then composes images of these packages.
    let mut names = combinations(&packages, packages.len());
    for package in &packages {
        until(&format!("the edge composes of {package}"), LONG, || {
            let is_new = |name: &ImageName| format!("/{name}/").contains(&format!("/{package}/"));
            let name = names.find(|name| name.to_string().contains("shell/") && is_new(name));
            let name = name.expect("there are enough").to_string();
            (registry.built(&name, "latest").header("x-firn-source") == Some("composed")).then_some(())
        });
    }
    let inspect = |name: &str| {
        let image = format!("docker://{}/{name}", edge.address());
        let said = skopeo::skopeo(&["inspect", "--tls-verify=false", &image]).succeeded();
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(said["RepoTags"], serde_json::json!(["latest"]), "{name}");
    };
    // The backend has never built the second image, and then is stopped.
    let mut unheard = ["shell/less/tree/hello", "shell/less/tree/jq"].into_iter();
    let mut inspect_unheard = || {
        let name = unheard.next().expect("one more");
        inspect(name);
        assert_ne!(registry.manifest(name).header("x-firn-source"), Some("backend"), "{name}");
    };
    inspect_unheard();
    backend.stop();
    inspect_unheard();

    let asked = "shell/git/hello/jq/tree";
    let image = format!("{}/{asked}", edge.address());
    dockerd().pull(&image);
    let said = dockerd()
        .run(&[], &image, &["/bin/bash", "-c", "git --version; echo '[1]' | jq -c .; hello"])
        .succeeded();
    assert!(said.starts_with("git version ") && said.contains("\n[1]\nHello, world!"), "{said}");

    let names: Vec<String> =
        names.filter(|name| name.to_string() != asked).take(40).map(|n| n.to_string()).collect();
    let composed: Vec<_> = names
        .iter()
        .map(|name| {
            let answer = registry.manifest(name);
            assert_eq!((answer.status, answer.header("x-firn-source")), (200, Some("composed")), "{name}");
            (Image::from_answer(&registry, name, &answer).digests(), answer.body)
        })
        .collect();
    assert_eq!(registry.manifest(asked).status, 200);
    let top = Image::pull(&registry, asked);
    top.layers(&registry);
    // An image that the edge cannot compose needs a backend. The answer says that there is none.
    assert_eq!(registry.manifest("git/wget").error().0, "UNAVAILABLE");

    // The backend makes the same image.
    drop(edge);
    let backend = start();
    let edge = Wrangler::with(&backend, "FIRN_COMPOSE=false\n");
    for (name, (digests, body)) in names.iter().zip(composed) {
        let answer = edge.registry().built(name, "latest");
        assert_eq!(answer.header("x-firn-source"), Some("backend"), "{name}");
        assert_eq!(answer.body, body, "{name}");
        assert_eq!(Image::from_answer(&edge.registry(), name, &answer).digests(), digests, "{name}");
    }
}
