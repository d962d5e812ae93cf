//! What a private pull costs: every digest must be known to belong to the image's name.

use crate::request;
use firn_shared::oci::{digest::Digest, document::Document, media_type::ManifestFormat};
use firn_tests::edge::{
    Behaviour, Origin,
    planet::{Bill, Place, Planet, Settings},
};
use reqwest::{Method, Response};
use std::time::Duration;

const TAG: &str = "/v2/shell/git/manifests/latest";

async fn planet() -> (Planet, Origin) {
    let origin = Origin::start().await;
    let settings = Settings::new(&origin.named()).with("FIRN_ACCESS", "private");
    let settings = settings.with("FIRN_USERS", "ann:secret").with("FIRN_SECRET", "s3cret");
    let planet = Planet::start(settings).await;
    // The object of the tag writes a row when it first learns of it.
    get(planet.at("lhr").isolate(0), "/v2/other/manifests/latest").await;
    planet.settle().await;
    (planet, origin)
}

async fn get(place: Place<'_>, path: &str) -> Response {
    let request = place.request(Method::GET, path).basic_auth("ann", Some("secret"));
    let response = request.send().await.expect("an answer");
    assert!([200, 307].contains(&response.status().as_u16()), "{path}: {}", response.status());
    response
}

/// Pulls an image: the tag by the first isolate of a location, the rest by the second.
async fn pull(planet: &Planet, location: &str) {
    let [first, second] = [0, 1].map(|isolate| planet.at(location).isolate(isolate));
    let manifest = get(first, TAG).await;
    planet.settle().await;
    let digest = manifest.headers()["docker-content-digest"].to_str().expect("a digest").to_owned();
    let mut document = Document::parse(&manifest.bytes().await.expect("a body")).expect("a document");
    get(second, &format!("/v2/shell/git/manifests/{digest}")).await;
    if let Document::Index(index) = &document {
        let listed = format!("/v2/shell/git/manifests/{}", index.manifests[0].digest);
        let manifest = get(second, &listed).await.bytes().await.expect("a body");
        document = Document::parse(&manifest).expect("a document");
    }
    for child in document.children() {
        get(second, &format!("/v2/shell/git/blobs/{}", child.descriptor.digest)).await;
    }
}

/// How many requests to objects a pull takes, those by which the backend is asked aside, and how many rows are written.
async fn objects(planet: &Planet, location: &str) -> (usize, u64) {
    let before = planet.operations().await.len();
    let (bill, ()) = planet.bill_for(pull(planet, location)).await;
    let operations = planet.operations().await;
    let asked = operations[before..].iter().filter(|line| line.contains("REPOSITORIES")).count();
    (asked, bill.rows_written)
}

#[tokio::test]
async fn one_request_to_an_object_is_enough_for_an_image() {
    let (planet, _origin) = planet().await;
    assert_eq!(objects(&planet, "lhr").await, (1, 1), "one row for all that the manifest refers to");
    assert_eq!(objects(&planet, "lhr").await, (0, 0), "warm");
    planet.advance(Duration::from_secs(61)).await;
    assert_eq!(objects(&planet, "nrt").await, (1, 0), "elsewhere");
    assert_eq!(objects(&planet, "nrt").await, (0, 0));
    // What a location has forgotten is not written again.
    planet.deploy().await;
    planet.advance(Duration::from_secs(2 * 24 * 3600)).await;
    assert_eq!(objects(&planet, "lhr").await, (1, 0));
}

/// What the manifests of an index refer to is told with the index.
#[tokio::test]
async fn one_request_is_enough_for_an_index_that_was_pulled_before() {
    let (planet, origin) = planet().await;
    origin.behave(Behaviour::Index);
    assert_eq!(objects(&planet, "lhr").await, (2, 2), "one row for the index, one for the manifest");
    assert_eq!(objects(&planet, "lhr").await, (0, 0), "warm");
    planet.advance(Duration::from_secs(61)).await;
    assert_eq!(objects(&planet, "nrt").await, (1, 0), "elsewhere");
}

/// A client that resumes a pull somewhere else knows digests alone.
#[tokio::test]
async fn a_blob_brings_all_that_belongs_to_its_manifest() {
    let (planet, _origin) = planet().await;
    pull(&planet, "lhr").await;
    let manifest = Origin::manifest("shell/git", "set-1", ManifestFormat::Oci);
    let document = Document::parse(&manifest).expect("a manifest");
    let config = document.children().next().expect("a config").descriptor.digest;
    let digest = Digest::of(&manifest);
    planet.advance(Duration::from_secs(61)).await;
    let nrt = planet.at("nrt").isolate(0);
    let paths = [format!("/v2/shell/git/blobs/{config}"), format!("/v2/shell/git/manifests/{digest}")];
    for (path, object_requests) in paths.iter().zip([1, 0]) {
        let (bill, _) = planet.bill_for(get(nrt, path)).await;
        assert_eq!(bill.object_requests, object_requests, "{path}: {:#?}", planet.operations().await);
        assert_eq!(Bill { object_requests: 0, kv_reads: 0, rows_read: 0, ..bill }, request());
    }
}
