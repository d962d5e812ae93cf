//! Backend and edge on one bucket: the backend writes blobs, and the edge redirects clients there.

use firn_tests::{
    azurite::{Azurite, CONTAINER},
    backend::Backend,
    dockerd::Dockerd,
    gcs::{self, Gcs},
    image::Image,
    package_set,
    registry::ACCEPT,
    s3::{BUCKET, S3},
    wrangler::{SECRET, Wrangler},
};

/// A backend that stores everything in a bucket of this server, or under a prefix in it.
pub(crate) fn backend(s3: &S3, storage: &str) -> Backend {
    let backend = Backend::serving(package_set::bundled()).env("FIRN_SECRET", SECRET);
    let backend = backend.env("FIRN_STORAGE", storage);
    s3.environment().into_iter().fold(backend, |backend, (name, value)| backend.env(name, value)).start()
}

#[test]
fn docker_pulls_from_the_bucket() {
    let s3 = S3::start();
    let backend = backend(&s3, &format!("s3://{BUCKET}/some/where"));
    let edge = Wrangler::with(&backend, &s3.edge_variables("some/where"));
    let registry = edge.registry();
    registry.built("shell/jq", "latest");
    let before = s3.presigned_requests();

    // A daemon of its own, which has no layers yet.
    let docker = Dockerd::start();
    let name = format!("{}/shell/jq:latest", edge.address());
    docker.pull(&name);
    let said = docker.run(&[], &name, &["jq", "--null-input", "6 * 7"]).succeeded();
    assert_eq!(said, "42");
    let manifest = registry.manifest("shell/jq").json();
    let layers = manifest["layers"].as_array().expect("layers");
    let fetched = s3.presigned_requests() - before;
    assert!(fetched > layers.len(), "{fetched} requests for {} layers and a config", layers.len());

    for blob in layers.iter().chain([&manifest["config"]]) {
        let digest = blob["digest"].as_str().expect("a digest");
        let path = format!("/v2/shell/jq/blobs/{digest}");
        let answer = registry.get(&path);
        assert_eq!(answer.status, 307, "{path}");
        let location = answer.header("location").expect("a location");
        let there = format!("{}/{BUCKET}/some/where/blobs/sha256/", s3.endpoint());
        assert!(location.starts_with(&there) && location.contains("X-Amz-Signature="), "{location}");
        let head = registry.head(&path);
        assert_eq!(head.header("content-length"), Some(blob["size"].to_string().as_str()), "{path}");
    }
}

/// Another backend on the same bucket has nothing to build. The first one may lose its local state.
fn all_state_is_in(storage: &str, environment: &[(&str, &str)], name: &str, set: &str) {
    let start = || {
        let backend = Backend::serving_expression(set).env("FIRN_STORAGE", storage);
        environment.iter().fold(backend, |backend, (name, value)| backend.env(name, value)).start()
    };
    let first = start();
    let image = Image::pull(&first.registry(), name);
    image.layers(&first.registry());
    assert!(first.nix_processes() > 0);
    drop(first);
    let second = start();
    let again = Image::pull(&second.registry(), name);
    again.layers(&second.registry());
    assert_eq!(again.digests(), image.digests());
    assert_eq!(second.nix_processes(), 0);
    let tags = second.registry().request("GET", &format!("/v2/{name}/tags/list"), &ACCEPT).json();
    assert_eq!(tags["tags"][0], "latest");
}

#[test]
fn all_state_is_in_s3() {
    let s3 = S3::start();
    all_state_is_in(&format!("s3://{BUCKET}"), &s3.environment(), "shell/git", &package_set::salted());
    assert_eq!(s3.unfinished_uploads(), 0);
}

/// A package whose layer is uploaded in parts.
const LARGE: &str = r#"{ system, ... }: {
  large = derivation {
    name = "large-1.0";
    inherit system;
    builder = "/bin/bash";
    args = [ "-e" "-c" "mkdir -p $out/share; head -c 20000000 /dev/urandom > $out/share/large; exit 0" ];
    PATH = "/usr/bin:/bin";
  };
}
"#;

#[test]
fn all_state_is_in_azure() {
    let azurite = Azurite::start();
    all_state_is_in(&format!("az://{CONTAINER}/some/where"), &azurite.environment(), "large", LARGE);
}

#[test]
fn all_state_is_in_google() {
    let gcs = Gcs::start();
    all_state_is_in(&format!("gs://{}/some/where", gcs::BUCKET), &gcs.environment(), "large", LARGE);
}
