//! Clocks that jump: whatever depends on them reports it, and everything else works.

use crate::storage::{gc, is_clean, pull, set_times};
use firn_shared::link::authentication::{HEADER, Secret};
use firn_tests::{
    backend::{Backend, Starting},
    package_set,
    registry::{ACCEPT, Answer, Registry},
};
use std::path::Path;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(24 * 3600);
const SECRET: &str = "old snow";

/// The library that makes programs see another time.
fn faketime() -> String {
    let places =
        ["x86_64", "aarch64"].map(|cpu| format!("/usr/lib/{cpu}-linux-gnu/faketime/libfaketime.so.1"));
    let place = places.iter().find(|place| Path::new(place).exists());
    place.expect("libfaketime is not installed; run: setup/clients").clone()
}

/// A backend whose clock the file sets: `+0` is correct, `+2d` is two days ahead. Time passes at its normal speed.
fn with_clock(backend: Starting, clock: &Path) -> Starting {
    backend
        .env("LD_PRELOAD", &faketime())
        .env("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

fn signed(registry: &Registry, name: &str) -> Answer {
    let path = format!("/v2/{name}/manifests/latest");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let proof = Secret::new(SECRET).sign("GET", &path, now);
    let mut headers = vec![(HEADER, proof.as_str())];
    headers.extend(ACCEPT);
    registry.request("GET", &path, &headers)
}

fn set_clock(clock: &Path, offset: &str) {
    std::fs::write(clock, offset).expect("written");
}

#[test]
fn signatures_are_refused_while_the_clock_is_wrong() {
    let dir = TempDir::new().expect("a temporary directory");
    let clock = dir.path().join("clock");
    set_clock(&clock, "+0");
    let backend = Backend::serving_expression(&package_set::small("signed")).args(&["--secret", SECRET]);
    let backend = with_clock(backend, &clock).start();
    let registry = backend.registry();
    assert_eq!(signed(&registry, "greeting").status, 200);
    for offset in ["+2d", "-2d", "+3650d"] {
        set_clock(&clock, offset);
        let answer = signed(&registry, "greeting");
        let (code, message) = answer.error();
        assert_eq!((answer.status, code.as_str()), (403, "DENIED"), "{offset}");
        assert!(message.contains("clock"), "{message}");
    }
    set_clock(&clock, "+0");
    assert_eq!(signed(&registry, "greeting").status, 200);
}

#[test]
fn pulls_and_builds_go_on_whatever_the_clock_says() {
    let dir = TempDir::new().expect("a temporary directory");
    let clock = dir.path().join("clock");
    set_clock(&clock, "+0");
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let set = package_set::many(5, u64::try_from(time.as_nanos() % (1 << 60)).expect("small"));
    let backend = Backend::serving_expression(&set).args(&["--disk-budget", "100", "--gc-grace", "2"]);
    let data = dir.path().join("data");
    let backend = with_clock(backend, &clock).data(&data).start();
    let registry = backend.registry();
    let first = pull(&registry, "p0");
    for (name, offset) in [("p1", "+3650d"), ("p2", "-3650d"), ("p3", "+1d")] {
        set_clock(&clock, offset);
        pull(&registry, name);
        assert_eq!(pull(&registry, "p0").digest, first.digest, "{offset}");
    }
    set_clock(&clock, "+0");
    pull(&registry, "p4");
    backend.kill();
    is_clean(&data);
}

/// Objects that were written while the clock of the storage was ahead or behind.
#[test]
fn garbage_collection_bears_times_from_the_future() {
    let data = TempDir::new().expect("a temporary directory");
    let backend = Backend::serving_expression(&package_set::small("future")).data(data.path()).start();
    let registry = backend.registry();
    let image = pull(&registry, "greeting");
    for folder in ["images", "layers", "blobs", "packages", "tags", "pulls", "upkeep"] {
        set_times(data.path(), folder, SystemTime::now() + 3650 * DAY);
    }
    for _ in 0..2 {
        let done = gc(data.path(), &["--gc-unused", "1"]);
        assert_eq!(done["images"].as_array().map(Vec::len), Some(0), "what is from the future is young");
    }
    assert_eq!(pull(&registry, "greeting").digest, image.digest);
    for folder in ["images", "layers", "blobs", "packages", "tags", "pulls", "upkeep"] {
        set_times(data.path(), folder, SystemTime::UNIX_EPOCH);
    }
    let done = gc(data.path(), &["--gc-unused", "1"]);
    assert_eq!(done["images"].as_array().map(Vec::len), Some(1), "what is from 1970 is old");
    image.layers(&registry);
    assert_eq!(pull(&registry, "greeting").digest, image.digest);
    is_clean(data.path());
}
