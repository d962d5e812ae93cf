//! The simulation of `make bench BENCH=scale` against the Worker: both count the same when a tag moves at four
//! locations.

use firn_tests::{
    edge::{
        Origin,
        planet::{Planet, Settings},
    },
    node::node,
};
use serde::Deserialize;
use std::time::Duration;

const LOCATIONS: [&str; 4] = ["lhr", "nrt", "iad", "gru"];
const IMAGES: usize = 12;
/// How often each image is pulled at each location, in seconds.
const STEP: u64 = 10;

/// What happened from when the tag moved.
#[derive(Debug, Deserialize)]
struct Counted {
    images: u64,
    kv_reads: u64,
    kv_writes: u64,
    object_requests: u64,
    r2_class_b: u64,
    seconds: u64,
}

fn simulated() -> Counted {
    let rate = (LOCATIONS.len() * IMAGES) as f64 / STEP as f64;
    let arguments = [LOCATIONS.len().to_string(), IMAGES.to_string(), rate.to_string()];
    let output = node(["tests/bench/scale/calibrate.mjs"]).args(arguments).run().succeeded();
    serde_json::from_str(&output).expect("what was counted")
}

/// Whether two counts are alike: chance decides when a location checks a tag.
fn alike(a: u64, b: u64) -> bool {
    let (a, b) = (a.max(1) as f64, b.max(1) as f64);
    (0.6..1.7).contains(&(a / b))
}

#[tokio::test]
async fn the_simulation_counts_what_the_worker_does() {
    let expected = simulated();
    let origin = Origin::start().await;
    let settings = LOCATIONS.into_iter().fold(Settings::new(&origin.named()), |all, name| all.at(name, 2));
    let planet = Planet::start(settings).await;
    let pull_everything = async || {
        for location in LOCATIONS {
            for image in 0..IMAGES {
                let path = format!("/v2/image{image}/manifests/latest");
                assert_eq!(planet.at(location).get(&path).await.status(), 200, "{path} at {location}");
            }
        }
        planet.settle().await;
        planet.advance(Duration::from_secs(STEP)).await;
    };
    // Until all caches are as they are in use.
    for _ in 0..4 {
        pull_everything().await;
    }
    let asked = origin.seen().len();
    origin.move_to("set-2");
    let (bill, ()) = planet
        .bill_for(async {
            for _ in 0..expected.seconds / STEP {
                pull_everything().await;
            }
        })
        .await;
    let images = (origin.seen().len() - asked) as u64;
    println!("simulated: {expected:?}\nthe Worker: {images} images, {bill}");
    assert_eq!(images, expected.images, "questions to the backend");
    assert_eq!(bill.kv_writes, expected.kv_writes, "writes to KV");
    assert!(alike(bill.kv_reads, expected.kv_reads), "reads of KV: {expected:?}, {bill}");
    assert!(alike(bill.object_requests, expected.object_requests), "objects: {expected:?}, {bill}");
    assert!(alike(bill.r2_class_b, expected.r2_class_b), "reads of the bucket: {expected:?}, {bill}");
}
