//! A flood of unwanted images on storage with too little room: an image in demand at the edge stays complete, though
//! the backend sees none of its pulls.

use firn_shared::{link::object_key::blob_key, oci::digest::Digest};
use firn_tests::{
    backend::Backend,
    edge::{Edge, Settings},
    package_set,
    wait::{LONG, eventually},
};
use reqwest::{Method, StatusCode, header::LOCATION};
use std::fs;
use std::iter::Peekable;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const SECRET: &str = "s3cret";
/// Each package has a layer of its own. One MiB has room for about thirty images.
const PACKAGES: usize = 24;
const POPULAR: &str = "p0/p1";

/// Requests a manifest. Returns its blobs, or None if the registry has no room for the image.
async fn manifest(edge: &Edge, name: &str, client: &str) -> Option<Vec<Digest>> {
    let request = edge.request(Method::GET, &format!("/v2/{name}/manifests/latest"));
    let response = request.header("cf-connecting-ip", client).timeout(LONG).send().await.expect("an answer");
    let (status, body) = (response.status(), response.bytes().await.expect("a body"));
    if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&status) {
        return None;
    }
    assert_eq!(status, 200, "{name}: {}", String::from_utf8_lossy(&body));
    let manifest: serde_json::Value = serde_json::from_slice(&body).expect("a manifest");
    let blobs = manifest["layers"].as_array().expect("layers").iter().chain([&manifest["config"]]);
    Some(blobs.map(|blob| blob["digest"].as_str().expect("text").parse().expect("a digest")).collect())
}

/// Pulls the popular image as clients do. Every part of it must exist and be correct.
async fn pull(edge: &Edge) {
    let blobs = eventually("it is built", async || manifest(edge, POPULAR, "203.0.113.1").await).await;
    for digest in blobs {
        let redirect = edge.get(&format!("/v2/{POPULAR}/blobs/{digest}")).await;
        let location = redirect.headers()[LOCATION].to_str().expect("text").to_owned();
        let response = edge.client.get(location).send().await.expect("the backend answers");
        assert_eq!(response.status(), 200, "{digest} is gone");
        assert_eq!(Digest::of(&response.bytes().await.expect("a body")), digest);
    }
}

/// Requests one image after another, each only once.
struct Flood {
    names: Peekable<Box<dyn Iterator<Item = String>>>,
    /// The blobs of each image that there was room for.
    made: Vec<Vec<Digest>>,
}

impl Flood {
    /// All combinations of three packages. No two names mean the same image, which would then be used twice.
    fn new() -> Self {
        let names: Box<dyn Iterator<Item = String>> = Box::new((0..PACKAGES).flat_map(|a| {
            (a + 1..PACKAGES).flat_map(move |b| (b + 1..PACKAGES).map(move |c| format!("p{a}/p{b}/p{c}")))
        }));
        Self { names: names.peekable(), made: Vec::new() }
    }

    async fn next(&mut self, edge: &Edge) {
        let name = self.names.peek().expect("the storage overflows before there are no more names");
        if let Some(blobs) = manifest(edge, name, "203.0.113.66").await {
            self.made.push(blobs);
            self.names.next();
        }
    }

    /// Continues until one of its images was collected.
    async fn overflow(&mut self, edge: &Edge, storage: &Path) {
        let is_there = |digest: &Digest| storage.join(blob_key(digest)).exists();
        self.made.retain(|blobs| blobs.iter().all(is_there));
        eventually("one of them is collected", async || {
            self.next(edge).await;
            (!self.made.iter().flatten().all(is_there)).then_some(())
        })
        .await;
    }
}

/// The number of uses of the most used image, as far as the backend has written it.
fn most_uses(storage: &Path) -> u32 {
    let folders = fs::read_dir(storage.join("pulls")).into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    let uses = files.filter_map(|file| {
        let content = fs::read_to_string(file.path()).ok()?;
        content.split_once(' ')?.0.parse().ok()
    });
    uses.max().unwrap_or(0)
}

#[tokio::test]
async fn a_flood_of_images_takes_nothing_down_that_is_in_demand() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() % (1 << 60);
    let set = package_set::many(PACKAGES, u64::try_from(seed).expect("small"));
    let backend = Backend::serving_expression(&set)
        .env("FIRN_SECRET", SECRET)
        .args(&["--disk-budget", "1", "--gc-grace", "3"])
        .start();
    let storage = backend.data().join("storage");
    let settings = Settings::new(&format!("http://{}", backend.address()))
        .with("FIRN_SECRET", SECRET)
        .with("FIRN_COMPOSE", "false")
        .with("FIRN_REPORT_SECONDS", "1");
    let edge = Edge::start(settings).await;
    // Clients pull the image now and then.
    eventually("the backend knows that it is in demand", async || {
        pull(&edge).await;
        (most_uses(&storage) >= 3).then_some(())
    })
    .await;
    let mut flood = Flood::new();
    // Then they do not for a while, and all images of others are newer.
    for _ in 0..2 {
        flood.overflow(&edge, &storage).await;
        pull(&edge).await;
    }
}
