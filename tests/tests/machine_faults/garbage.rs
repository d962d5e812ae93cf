//! Garbage collection: unused images are removed, used ones stay complete, and the disk does not fill up.

use crate::storage::{files, gc, is_clean, pull, pull_again, set_times};
use firn_shared::{
    Digest,
    link::object_key::{blob_key, composed_key},
};
use firn_tests::{
    backend::{Backend, command},
    package_set,
    program::Program,
    registry::ACCEPT,
    s3::{BUCKET, S3},
    wait::until,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn names(collection: &Value) -> BTreeSet<String> {
    let images = collection["images"].as_array().expect("a list");
    images.iter().map(|image| image["name"].as_str().expect("a text").to_owned()).collect()
}

fn seed() -> u64 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    u64::try_from(time.as_nanos() % (1 << 60)).expect("small")
}

#[test]
fn unused_images_are_collected() {
    let data = TempDir::new().expect("a temporary directory");
    let set = package_set::many(4, seed());
    let serve = || Backend::serving_expression(&set).data(data.path()).start();
    let mut backend = serve();
    let images: Vec<_> = ["p0", "p1", "p2"].map(|name| pull(&backend.registry(), name)).into();
    backend.stop();
    // Everything was built and pulled a hundred days ago. Then one image is pulled again, and the server restarted.
    for folder in ["images", "layers", "packages", "composition", "blobs", "pulls", "tags"] {
        set_times(data.path(), folder, SystemTime::now() - 100 * DAY);
    }
    let mut backend = serve();
    pull(&backend.registry(), "p1");
    backend.stop();

    let before = files(&data.path().join("storage")).len();
    let expect: BTreeSet<_> = ["p0", "p2"].map(str::to_owned).into();
    let dry = gc(data.path(), &["--dry-run"]);
    assert_eq!((names(&dry), &dry["images_kept"]), (expect.clone(), &1.into()));
    assert_eq!(files(&data.path().join("storage")).len(), before + 1, "but for the clock, nothing changes");

    let backend = serve();
    let registry = backend.registry();
    let done = gc(data.path(), &[]);
    assert_eq!(names(&done), expect);
    assert!(done["condemned"].as_u64() > Some(0), "{done:#}");
    for image in &images {
        // A client that got a manifest just before can continue.
        image.layers(&registry);
    }
    assert_eq!(pull(&registry, "p2").digest, images[2].digest, "it is built again");
    is_clean(data.path());
    // After the grace period, what only the first image needed is gone, and nothing else.
    let done = gc(data.path(), &["--gc-grace", "0"]);
    assert!(done["blobs"].as_u64() > Some(0), "{done:#}");
    is_clean(data.path());
    assert!(!crate::storage::blob(data.path(), &images[0].digest).exists());
    for (name, image) in ["p1", "p2", "p0"].iter().zip([&images[1], &images[2], &images[0]]) {
        assert_eq!(pull(&registry, name).digest, image.digest);
    }
    is_clean(data.path());
}

/// Edges compose images from layers that no image of the backend may need any more, and write blobs that the backend
/// does not know.
#[test]
fn what_edges_compose_from_is_kept() {
    let data = TempDir::new().expect("a temporary directory");
    let set = package_set::many(2, seed());
    let mut backend = Backend::serving_expression(&set).data(data.path()).start();
    let image = pull(&backend.registry(), "p0");
    backend.stop();
    let put = |key: String, bytes: &[u8]| {
        let path = data.path().join("storage").join(key);
        std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("the folder");
        std::fs::write(&path, bytes).expect("the object");
        path
    };
    let (noted, stray) = (Digest::of(b"noted"), Digest::of(b"stray"));
    let (noted, stray) = (
        (put(composed_key(&noted), b""), put(blob_key(&noted), b"noted")).1,
        put(blob_key(&stray), b"stray"),
    );
    let age = |folders: &[&str]| {
        for folder in folders {
            set_times(data.path(), folder, SystemTime::now() - 100 * DAY);
        }
        let done = gc(data.path(), &[]);
        gc(data.path(), &["--gc-grace", "0"]);
        names(&done).len()
    };
    // The symlink layer is the image's own. The others belong to the package.
    let (top, layers) =
        image.layer_digests().split_last().map(|(top, rest)| (top.clone(), rest.to_vec())).expect("layers");
    let left = || layers.iter().filter(|layer| crate::storage::blob(data.path(), layer).exists()).count();
    assert_eq!(age(&["images", "layers", "packages", "blobs", "pulls", "tags"]), 1);
    assert_eq!((left(), noted.exists(), stray.exists()), (layers.len(), true, false));
    assert!(!crate::storage::blob(data.path(), &top).exists());
    // No client has needed them for long.
    age(&["composition", "composed", "blobs"]);
    assert_eq!((left(), noted.exists()), (0, false));
    assert!(files(&data.path().join("storage/composition")).is_empty());
}

/// Pulls and builds continue while garbage is collected as fast as possible.
#[test]
fn collecting_breaks_nothing() {
    const ROUNDS: usize = 6;
    let data = TempDir::new().expect("a temporary directory");
    let set = package_set::many(6, seed());
    let grace = ["--gc-grace", "15"];
    let backend = Backend::serving_expression(&set).data(data.path()).args(&grace).start();
    let ended = std::sync::atomic::AtomicBool::new(false);
    let removed = thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut removed = 0;
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                let done = gc(data.path(), &["--gc-unused", "0", "--gc-grace", "15"]);
                removed += names(&done).len();
            }
            removed
        });
        let pullers: Vec<_> = (0..2)
            .map(|puller| {
                let registry = backend.registry();
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        for n in 0..3 {
                            pull(&registry, &format!("p{}/p{}", n + puller, n + 1 + (puller + round) % 3));
                        }
                    }
                })
            })
            .collect();
        pullers.into_iter().for_each(|puller| puller.join().expect("every pull is whole"));
        // Images that are not pulled any more are removed.
        until("everything is collected", Duration::from_secs(120), || {
            files(&data.path().join("storage/images")).is_empty().then_some(())
        });
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        collector.join().expect("the collector's thread")
    });
    assert!(removed > 0);
    is_clean(data.path());
}

/// The disk space of the files in bytes, as `du` counts it.
fn disk_usage(dir: &Path) -> u64 {
    let printed = Program::new("du").args(["--summarize", "--block-size=1"]).args([dir]).run();
    // Files may vanish while du counts.
    printed.text().split_whitespace().next().and_then(|bytes| bytes.parse().ok()).unwrap_or_default()
}

/// However many names are requested, the storage stays within its budget, and new images are built as soon as old
/// ones may be removed.
#[test]
fn a_flood_of_names_does_not_fill_the_disk() {
    const BUDGET_MIB: u64 = 1;
    // The directories for two digits take a block each, too.
    const DIRECTORIES: u64 = 6 * 256 * 4096;
    let data = TempDir::new().expect("a temporary directory");
    let set = package_set::many(24, seed());
    let backend = Backend::serving_expression(&set)
        .data(data.path())
        .args(&["--disk-budget", &BUDGET_MIB.to_string(), "--gc-grace", "3"])
        .start();
    let registry = backend.registry();
    let (mut built, mut refused, mut most) = (0, 0, 0);
    for a in 0..24 {
        for b in 0..3 {
            let path = format!("/v2/p{a}/p{}/manifests/latest", (a + 7 * b + 1) % 24);
            let answer = registry.request("GET", &path, &ACCEPT);
            match answer.status {
                200 => built += 1,
                503 => {
                    assert!(answer.header("retry-after").is_some());
                    let (code, message) = answer.error();
                    assert_eq!((code.as_str(), message.contains("no space left")), ("UNAVAILABLE", true));
                    refused += 1;
                }
                other => panic!("{other}: {}", answer.text()),
            }
            let used: u64 = files(&data.path().join("storage"))
                .iter()
                .filter_map(|path| Some(path.metadata().ok()?.len().next_multiple_of(4096)))
                .sum();
            most = most.max(used);
        }
    }
    eprintln!("{built} images built, {refused} refused, at most {most} bytes of {}", BUDGET_MIB << 20);
    assert!(most <= BUDGET_MIB << 20, "{most} bytes");
    assert!(disk_usage(&data.path().join("storage")) <= (BUDGET_MIB << 20) + DIRECTORIES);
    assert!(refused > 0, "there is not room for all of them");
    // After the flood there is room again.
    until("there is room", Duration::from_secs(60), || {
        (registry.request("GET", "/v2/p0/p5/p9/manifests/latest", &ACCEPT).status == 200).then_some(())
    });
    pull(&registry, "p0/p5/p9");
    is_clean(data.path());
}

/// The same commands on a real S3 server.
#[test]
fn gc_and_fsck_work_on_buckets() {
    let s3 = S3::start();
    let data = TempDir::new().expect("a temporary directory");
    let storage = format!("s3://{BUCKET}/looked-after");
    let mut backend = Backend::serving_expression(&package_set::many(2, seed()))
        .data(data.path())
        .args(&["--storage", &storage]);
    for (name, value) in s3.environment() {
        backend = backend.env(name, value);
    }
    let backend = backend.start();
    let registry = backend.registry();
    let images = ["p0", "p1"].map(|name| pull(&registry, name));
    let look = |arguments: &[&str]| -> Value {
        let place = ["--json", "--storage", &storage, "--data", data.path().to_str().expect("UTF-8")];
        let mut firn = command(&[arguments, &place].concat());
        for (name, value) in s3.environment() {
            firn = firn.env(name, value);
        }
        serde_json::from_str(&firn.run().succeeded()).expect("JSON")
    };
    let report = look(&["fsck"]);
    assert!(report["blobs"].as_u64() >= Some(8), "{report:#}");
    assert_eq!(names(&look(&["gc", "--dry-run"])), BTreeSet::new(), "both were pulled just now");
    let everything = ["gc", "--gc-unused", "0", "--gc-grace", "0"];
    // Times in buckets have a resolution of a second.
    until("both images are old enough to go", Duration::from_secs(60), || {
        look(&everything);
        look(&["fsck", "--repair"])["blobs"].as_u64().filter(|blobs| *blobs == 0)
    });
    for (name, image) in ["p0", "p1"].iter().zip(&images) {
        assert_eq!(pull_again(&registry, name).digest, image.digest, "it is built again");
    }
    assert_eq!(look(&["fsck"])["findings"].as_array().map(Vec::len), Some(0));
}
