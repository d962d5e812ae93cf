//! What a request for a blob costs.

use crate::request;
use firn_shared::{link::object_key::blob_key, oci::digest::Digest};
use firn_tests::edge::{
    Origin,
    planet::{Bill, Place, Planet, Settings},
    records::Records,
};
use reqwest::Response;
use std::time::Duration;

fn path(name: &str, digest: &Digest) -> String {
    format!("/v2/{name}/blobs/{digest}")
}

async fn location(place: Place<'_>, path: &str) -> (u16, String) {
    let response: Response = place.get(path).await;
    let location = response.headers().get("location").map(|value| value.to_str().expect("a URL").to_owned());
    (response.status().as_u16(), location.unwrap_or_default())
}

/// Blobs of a public bucket are a redirect, whichever image they belong to: composed ones are in that bucket, too.
#[tokio::test]
async fn of_a_public_bucket_it_is_a_request_to_the_worker() {
    let origin = Origin::start().await;
    let settings = Settings::new(&origin.named()).with("FIRN_BLOBS", "public");
    let planet = Planet::start(settings.with("FIRN_BLOBS_URL", "https://blobs.example/a/b")).await;
    let records = Records::new();
    records.put_into_kv(&planet).await;
    let image = records.image("git/jq");
    let manifest = planet.at("lhr").get("/v2/git/jq/manifests/latest").await;
    assert_eq!(manifest.headers()["x-firn-source"], "composed");
    for digest in [Digest::of(b"a layer"), image.top.digest, image.config.digest] {
        for place in ["lhr", "nrt"] {
            let (bill, answer) = planet.bill_for(location(planet.at(place), &path("git/jq", &digest))).await;
            let url = format!("https://blobs.example/a/b/{}", blob_key(&digest));
            assert_eq!((answer, bill), ((307, url), request()), "{:#?}", planet.operations().await);
        }
    }
    // Where the URL leads to, in the bucket.
    for blob in [&image.top, &image.config] {
        assert_eq!(planet.stored("r2", &format!("a/b/{}", blob_key(&blob.digest))).await, blob.bytes);
    }
    let notes: Vec<_> = planet.keys().await.into_iter().filter(|(_, metadata)| metadata.is_null()).collect();
    let known = records.records().len() + 1;
    assert_eq!(notes.len(), known, "records and the tag, but no notes of blobs: {notes:?}");
}

/// An image whose blobs clients would not find is not composed.
#[tokio::test]
async fn a_bucket_that_is_not_the_public_one_is_noticed() {
    let origin = Origin::start().await;
    let settings = Settings::new(&origin.named()).with("FIRN_BLOBS", "public");
    // The backend has no such blob.
    let planet = Planet::start(settings.with("FIRN_BLOBS_URL", &origin.named())).await;
    Records::new().put_into_kv(&planet).await;
    let manifest = planet.at("lhr").get("/v2/git/jq/manifests/latest").await;
    assert_eq!(manifest.headers()["x-firn-source"], "backend");
    assert!(planet.log().contains("BLOBS is not the bucket"), "{}", planet.log());
}

/// That a blob is nowhere but at the backend is asked once for a location and hour.
#[tokio::test]
async fn of_the_backend_it_is_read_once_whether_the_edge_has_it() {
    let origin = Origin::start().await;
    let planet = Planet::start(Settings::new(&origin.named())).await;
    let path = path("git", &Digest::of(b"a layer"));
    let check = async |place: Place<'_>, kv_reads: u64| {
        let (bill, (status, _)) = planet.bill_for(location(place, &path)).await;
        assert_eq!((status, bill), (307, Bill { kv_reads, ..request() }), "{:#?}", planet.operations().await);
    };
    check(planet.at("lhr").isolate(0), 1).await;
    check(planet.at("lhr").isolate(0), 0).await;
    check(planet.at("lhr").isolate(1), 0).await;
    check(planet.at("nrt").isolate(0), 1).await;
    planet.advance(Duration::from_secs(3601)).await;
    check(planet.at("lhr").isolate(1), 1).await;
    check(planet.at("lhr").isolate(0), 0).await;
}

/// The blobs of a composed image are found by those who got the manifest, whatever was believed before.
#[tokio::test]
async fn composed_blobs_are_known_without_asking() {
    let origin = Origin::start().await;
    let planet = Planet::start(Settings::new(&origin.named())).await;
    let records = Records::new();
    records.put_into_kv(&planet).await;
    let image = records.image("git/jq");
    let blobs = [&image.top, &image.config].map(|blob| path("git/jq", &blob.digest));
    for place in ["lhr", "nrt"] {
        for blob in &blobs {
            assert_eq!(location(planet.at(place), blob).await.0, 307, "it is not there yet");
        }
    }
    let tag = "/v2/git/jq/manifests/latest";
    for place in ["lhr", "nrt"] {
        let manifest = planet.at(place).isolate(0).get(tag).await;
        assert_eq!(manifest.headers()["x-firn-source"], "composed");
        planet.settle().await;
        for blob in &blobs {
            let (bill, response) = planet.bill_for(planet.at(place).isolate(0).get(blob)).await;
            assert_eq!(response.status(), 200, "{place}");
            // It is read again for the location's cache.
            assert_eq!(bill, Bill { r2_class_b: 2, ..request() }, "{:#?}", planet.operations().await);
        }
        // R2 takes one put per key and second.
        planet.advance(Duration::from_secs(1)).await;
    }
}

/// A location reads a blob of R2 once a day: for the client, and for its cache.
#[tokio::test]
async fn of_the_bucket_it_is_read_once_for_a_location() {
    let origin = Origin::start().await;
    let planet = Planet::start(Settings::new(&origin.named()).with("FIRN_BLOBS", "r2")).await;
    let blob: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
    let digest = Digest::of(&blob);
    planet.put("r2", &blob_key(&digest), blob.clone(), None).await;
    let path = path("git", &digest);
    let check = async |place: Place<'_>, r2_class_b: u64| {
        let (bill, response) = planet.bill_for(place.get(&path)).await;
        assert_eq!(bill, Bill { r2_class_b, ..request() }, "{:#?}", planet.operations().await);
        assert_eq!(response.headers()["docker-content-digest"], digest.to_string());
        assert_eq!(response.headers()["content-length"], blob.len().to_string());
        assert!(response.bytes().await.expect("a body") == blob, "the bytes differ");
    };
    check(planet.at("lhr").isolate(0), 2).await;
    check(planet.at("lhr").isolate(0), 0).await;
    check(planet.at("lhr").isolate(1), 0).await;
    check(planet.at("nrt").isolate(0), 2).await;
    planet.advance(Duration::from_secs(24 * 3600 + 1)).await;
    check(planet.at("lhr").isolate(1), 2).await;
}
