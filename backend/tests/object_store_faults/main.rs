//! Object stores that fail, are slow, far away or full. In every case the next build makes the image, and incomplete
//! objects cannot be reached.

#[path = "../builder/mod.rs"]
mod builder;
mod faulty;
mod late;
mod objects;
mod round_trips;
mod site;

use builder::builder;
use faulty::{Fault, Faulty};
use firn_backend::{config::RetentionPolicy, package_set::PackageSet, store::Store, upkeep};
use firn_shared::{
    cache_key::CacheKey,
    naming::{
        image_name::ImageName,
        package_source::{PackageSource, Revisions},
    },
};
use firn_tests::random::Random;
use object_store::{ObjectStore, memory::InMemory};
use objects::{copy, delete_all};
use site::{Site, image};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_step_of_a_build_may_fail() {
    let site = Site::new("any_step_of_a_build_may_fail", 4);
    let name: ImageName = "p0/p1".parse().expect("a name");

    // Realise everything once. The packages' records stay, so Nix has nothing more to do.
    let known = Arc::new(InMemory::new());
    let staging = site.staging();
    let store = Store::on(Arc::clone(&known) as Arc<dyn ObjectStore>, &staging).expect("a store");
    let expect = image(&site.builder(store), &name).await.expect("the image without faults");
    for folders in
        [&["blobs", "layers", "images", "tags"][..], &["blobs", "layers", "images", "tags", "packages"]]
    {
        let (mut faults, mut survived) = (0, 0);
        let before = copy(&known).await;
        delete_all(&before, folders).await;
        // With Nix this takes a hundred times longer, so only some steps are tried.
        let stride = if folders.contains(&"packages") { 7 } else { 1 };
        for fault in [Fault::Refused, Fault::DoneAndRefused, Fault::Torn, Fault::Slow] {
            for at in (1..).step_by(stride) {
                let objects = copy(&before).await;
                let faulty = Faulty::new(objects, fault, at, &site.random);
                let builder = site.builder(faulty.store(&staging));
                let first = image(&builder, &name).await;
                let steps = faulty.steps.load(Ordering::SeqCst);
                faulty.heal();
                if let Ok(image) = &first {
                    assert_eq!(image, &expect, "{fault:?} at {at}");
                } else {
                    faults += 1;
                }
                // Ask again at once, without waiting for anything to expire.
                let again = image(&builder, &name).await;
                let again = again.unwrap_or_else(|error| panic!("{fault:?} at {at}: {error}"));
                assert_eq!(again, expect, "{fault:?} at {at}");
                let report = upkeep::check(builder.store(), false, |_, _| {}).await.expect("checked");
                assert_eq!(report.findings, [], "{fault:?} at {at}");
                survived += 1;
                let halves = walk(&staging);
                assert_eq!(halves, [] as [String; 0], "{fault:?} at {at}: unfinished");
                if at > steps || fault == Fault::Slow {
                    break;
                }
            }
        }
        eprintln!("without {folders:?}: {survived} builds with a fault, {faults} failed, all made again");
        assert!(faults > 20 / stride, "{faults} builds failed");
    }
}

/// After a collection has failed, the next one can start at once.
#[tokio::test]
async fn a_failed_collection_releases_its_lease() {
    let random = Random::seeded("a_failed_collection_releases_its_lease");
    let dir = tempfile::tempdir().expect("a directory");
    let policy = RetentionPolicy {
        budget: None,
        unused: Duration::from_secs(3600),
        age: None,
        grace: Duration::from_secs(3600),
    };
    let mut failures = 0;
    for at in 1.. {
        let faulty = Faulty::new(Arc::default(), Fault::Refused, at, &random);
        let store = faulty.store(dir.path());
        store.note_pull(&CacheKey::builder("an image").build());
        let first = upkeep::collect(&store, &policy, false).await;
        let steps = faulty.steps.load(Ordering::SeqCst);
        failures += usize::from(first.is_err());
        faulty.heal();
        let again = upkeep::collect(&store, &policy, false).await.expect("nothing fails any more");
        assert!(again.is_some(), "{at}: no other process collects");
        if at > steps {
            break;
        }
    }
    assert!(failures > 5, "{failures} failed");
}

/// An edge's questions are answered even if there is no room to write that it asked.
#[tokio::test]
async fn edges_are_answered_when_the_store_is_full() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open("memory://", dir.path()).expect("a store");
    let key = CacheKey::builder("a record").build();
    store.put_composition(&key, b"what was published".to_vec()).await.expect("there is room");
    store.limit(1).await.expect("counted");
    let packages = PackageSet::new(
        PackageSource::Path { path: dir.path().to_owned(), flake: None },
        Revisions::Fixed,
        dir.path(),
        Duration::from_secs(60),
    )
    .expect("a directory");
    let published = builder(store, packages, dir.path()).published(&key).await.expect("nothing fails");
    assert_eq!(published.as_deref(), Some(&b"what was published"[..]));
}

/// The files in staging folders, without the locks.
fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(walk(&entry.path()));
        } else if entry.file_name() != "lock" {
            found.push(entry.path().display().to_string());
        }
    }
    found
}
