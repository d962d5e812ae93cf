//! Disks that are full or read-only: clear errors, nothing is lost, and everything works once they are writable
//! again.

use crate::storage::{files, is_clean, nothing_is_unfinished, pull};
use firn_tests::{
    backend::{Backend, command},
    image::Image,
    package_set,
    registry::{Answer, Registry},
    tmpfs::Tmpfs,
    wait::{LONG, until},
};
use std::path::PathBuf;
use std::time::Duration;

/// A backend whose data is on a disk of 16 MiB. `p0` is built, and other packages were never built.
struct Small {
    disk: Tmpfs,
    backend: Backend,
    registry: Registry,
    p0: Image,
}

impl Small {
    fn new() -> Self {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = u64::try_from(time.expect("after 1970").as_nanos() % (1 << 60)).expect("small");
        let disk = Tmpfs::new(16);
        let set = package_set::many(8, seed);
        let backend = Backend::serving_expression(&set).data(&data(&disk)).start();
        let registry = backend.registry();
        let p0 = pull(&registry, "p0");
        Self { disk, backend, registry, p0 }
    }
}

fn data(disk: &Tmpfs) -> PathBuf {
    disk.path().join("data")
}

/// Checks the answer to a client that cannot be served at the moment.
fn is_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    let (code, message) = answer.error();
    assert_eq!(code, "UNAVAILABLE");
    let seconds = answer.header("retry-after").expect("when to come again");
    assert!(seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0), "{seconds}");
    assert!(!message.contains('/'), "no paths: {message}");
}

#[test]
fn a_full_disk_refuses_builds_and_nothing_else() {
    let Small { disk, backend, registry, p0 } = Small::new();
    let filler = disk.fill();
    for name in ["p1", "p2", "p1"] {
        is_unavailable(&registry.settled(name, "latest"));
    }
    assert_eq!(pull(&registry, "p0").digest, p0.digest, "what is there is served");
    assert_eq!(registry.get("/healthz").status, 200);
    std::fs::remove_file(filler).expect("removed");
    // The failure is not remembered.
    registry.built("p1", "latest");
    pull(&registry, "p1");
    backend.kill();
    is_clean(&data(&disk));
    nothing_is_unfinished(&data(&disk), 0);
}

/// A disk that fills up while layers are written.
#[test]
fn a_disk_that_fills_up_on_the_way_leaves_nothing_half_done() {
    let disk = Tmpfs::new(24);
    let set = package_set::bundled();
    let backend = Backend::serving(set).data(&data(&disk)).start();
    let registry = backend.registry();
    let before = pull(&registry, "hello");
    // Larger than the free space.
    is_unavailable(&registry.settled("python3/git", "latest"));
    assert_eq!(pull(&registry, "hello").digest, before.digest);
    // Layers of the image that were not stopped by another layer's failure.
    until("nothing is being written", LONG, || {
        let staged = files(&data(&disk).join("storage/staging"));
        staged.iter().all(|path| path.ends_with("lock")).then_some(())
    });
    nothing_is_unfinished(&data(&disk), 1);
    is_clean(&data(&disk));
}

#[test]
fn a_disk_that_may_not_be_written_serves_what_is_on_it() {
    let Small { disk, backend, registry, p0 } = Small::new();
    disk.set_writable(false);
    is_unavailable(&registry.settled("p1", "latest"));
    assert_eq!(pull(&registry, "p0").digest, p0.digest, "what is there is served");
    disk.set_writable(true);
    registry.built("p1", "latest");
    pull(&registry, "p1");
    backend.kill();
    disk.set_writable(false);
    let data = data(&disk).display().to_string();
    let set = package_set::bundled().display().to_string();
    let serve = ["serve", "--pkgs-path", &set, "--data", &data, "--listen", "127.0.0.1:0"];
    let refused = command(&serve).limit(Duration::from_secs(20)).run();
    assert!(refused.status != 0 && refused.stderr.contains("Read-only file system"), "{refused:?}");
}
