//! Blobs and records that change on the disk: they are never served, and are made again.

use crate::storage::{blob, files, fsck, is_clean, problems, pull, pull_again};
use firn_tests::{backend::Backend, image::Image, package_set, registry::Registry};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn corrupt(path: &Path) {
    let mut bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(path, bytes).expect("written");
}

/// Fetches a blob. Returns whether the server sends all of it.
fn arrives_whole(registry: &Registry, digest: &str) -> bool {
    let answer = registry.try_request("GET", &format!("/v2/greeting/blobs/{digest}"), &[]);
    answer.is_ok_and(|answer| answer.status == 200)
}

fn serve(data: &Path) -> Backend {
    Backend::serving_expression(&package_set::small("corruption")).data(data).start()
}

/// Damages one blob of an image, and then pulls the image again.
fn check(harm: impl Fn(&Path, &Image), restart: bool) {
    is_clean(harmed(harm, restart).path());
}

/// Like [`check`]. Returns the data of a server that was killed afterwards.
fn harmed(harm: impl Fn(&Path, &Image), restart: bool) -> TempDir {
    let data = TempDir::new().expect("a temporary directory");
    let mut backend = serve(data.path());
    let image = pull(&backend.registry(), "greeting");
    if restart {
        backend.stop();
    }
    harm(data.path(), &image);
    if restart {
        backend = serve(data.path());
    }
    let registry = backend.registry();
    assert_eq!(
        registry.built("greeting", "latest").header("docker-content-digest"),
        Some(image.digest.as_str())
    );
    // The first client does not get the corrupt blob as a whole. For the next one it is made again.
    for digest in image.digests() {
        arrives_whole(&registry, &digest);
    }
    assert_eq!(pull(&registry, "greeting").digest, image.digest);
    backend.kill();
    data
}

#[test]
fn corrupt_blobs_are_made_again() {
    for restart in [false, true] {
        for part in 0..4 {
            let digest = |image: &Image| match part {
                0 => image.digest.clone(),
                1 => image.manifest.config().digest().to_string(),
                2 => image.layer_digests()[0].clone(),
                _ => image.layer_digests().pop().expect("a layer"),
            };
            check(|data, image| corrupt(&blob(data, &digest(image))), restart);
        }
    }
}

#[test]
fn missing_and_torn_blobs_are_made_again() {
    let layer = |data: &Path, image: &Image| blob(data, &image.layer_digests()[0]);
    check(|data, image| fs::remove_file(layer(data, image)).expect("removed"), true);
    check(|data, image| fs::write(layer(data, image), "torn").expect("written"), true);
    check(|data, image| fs::write(layer(data, image), "").expect("written"), true);
    check(|data, image| fs::remove_file(blob(data, &image.digest)).expect("removed"), true);
}

#[test]
fn corrupt_records_are_made_again() {
    for folder in ["images", "layers", "packages"] {
        for restart in [false, true] {
            let harm = |data: &Path, _: &Image| {
                files(&data.join("storage").join(folder)).iter().for_each(|path| corrupt(path));
            };
            let data = harmed(harm, restart);
            // Records that were never read are still corrupt.
            let (clean, report) = fsck(data.path(), &["--repair"]);
            assert!(
                clean && problems(&report).iter().all(|problem| problem == "corrupt_record"),
                "{report:#}"
            );
            is_clean(data.path());
        }
    }
}

/// A client that receives a corrupt blob notices before its end.
#[test]
fn what_is_corrupt_is_not_sent_whole() {
    let data = TempDir::new().expect("a temporary directory");
    let backend = serve(data.path());
    let registry = backend.registry();
    let image = pull(&registry, "greeting");
    let layer = image.layer_digests().remove(0);
    corrupt(&blob(data.path(), &layer));
    assert!(!arrives_whole(&registry, &layer), "it breaks off");
    assert!(!blob(data.path(), &layer).exists(), "it is out of the way");
    assert_eq!(registry.get(&format!("/v2/greeting/blobs/{layer}")).status, 404);
    assert_eq!(pull(&registry, "greeting").digest, image.digest, "it is made again");
}

/// `firn fsck` finds everything, changes nothing without `--repair`, and can repair while a server runs.
#[test]
fn fsck_finds_and_repairs() {
    let data = TempDir::new().expect("a temporary directory");
    let backend = serve(data.path());
    let registry = backend.registry();
    let image = pull(&registry, "greeting");
    let (clean, report) = fsck(data.path(), &[]);
    assert!(clean, "{report:#}");
    assert!(report["blobs"].as_u64() >= Some(4) && report["records"].as_u64() >= Some(3), "{report:#}");

    let layer = blob(data.path(), &image.layer_digests()[0]);
    corrupt(&layer);
    for _ in 0..2 {
        let (clean, report) = fsck(data.path(), &[]);
        assert!(!clean);
        assert_eq!(problems(&report), ["corrupt_blob", "incomplete_image", "layer_without_blob"]);
        assert!(layer.exists(), "nothing is changed");
    }
    let (clean, report) = fsck(data.path(), &["--repair"]);
    assert!(clean, "{report:#}");
    assert_eq!(problems(&report).len(), 3, "{report:#}");
    assert!(!layer.exists());
    assert_eq!(pull_again(&registry, "greeting").digest, image.digest, "the server goes on");
    is_clean(data.path());
    let (_, report) = fsck(data.path(), &[]);
    assert_eq!(report["quarantined"], 1);

    fs::remove_file(blob(data.path(), image.manifest.config().digest().as_ref())).expect("removed");
    corrupt(&files(&data.path().join("storage/packages"))[0]);
    let (clean, report) = fsck(data.path(), &[]);
    assert!(!clean);
    assert_eq!(problems(&report), ["corrupt_record", "incomplete_image"]);
    let (clean, _) = fsck(data.path(), &["--repair"]);
    assert!(clean);
    is_clean(data.path());
    assert_eq!(pull_again(&registry, "greeting").digest, image.digest);
}
