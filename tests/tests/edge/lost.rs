//! Missing blobs of images that the edge still serves.

use crate::{pair, put_image, refusal};
use firn_shared::oci::error::ErrorCode;
use firn_shared::{
    link::object_key::blob_key,
    oci::{digest::Digest, document::Document, error::OciError},
};
use firn_tests::{
    backend::Backend,
    edge::{Behaviour, Edge, Origin, Settings},
    package_set,
    wait::eventually,
};
use std::fs;
use std::time::Duration;

const SECRET: &str = "s3cret";

/// The real backend makes the blob again.
#[tokio::test]
async fn a_missing_blob_is_made_again() {
    let backend = Backend::serving_expression(&package_set::small("lost")).env("FIRN_SECRET", SECRET).start();
    let settings = Settings::new(&format!("http://{}", backend.address())).with("FIRN_SECRET", SECRET);
    let edge = Edge::start(settings).await;
    let manifest = eventually("it is built", async || {
        let response = edge.get("/v2/greeting/manifests/latest").await;
        (response.status() == 200).then_some(response)
    })
    .await;
    let digest = manifest.headers()["docker-content-digest"].to_str().expect("text").to_owned();
    let manifest: serde_json::Value = manifest.json().await.expect("a manifest");
    edge.await_manifest(&digest).await;
    let blobs = manifest["layers"].as_array().expect("layers").iter().chain([&manifest["config"]]);
    for blob in blobs {
        let digest: Digest = blob["digest"].as_str().expect("text").parse().expect("a digest");
        let file = backend.data().join("storage").join(blob_key(&digest));
        fs::remove_file(&file).expect("it is there");
        let response = edge.head(&format!("/v2/greeting/blobs/{digest}")).await;
        assert_eq!(response.status(), 200, "{digest}");
        assert!(file.exists(), "{digest}");
    }
}

/// A digest that belongs to no cached image is simply not found.
#[tokio::test]
async fn made_up_digests_ask_nobody() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_BLOBS", "r2")).await;
    put_image(&edge, "shell/git").await;
    let path = |blob: &[u8]| format!("/v2/shell/git/blobs/{}", Digest::of(blob));
    let missing = (404, "BLOB_UNKNOWN".to_owned());
    assert_eq!(refusal(edge.get(&path(b"made up")).await).await, missing);
    assert!(origin.seen().is_empty());
    // If a digest belongs to an image, the backend is asked, also by concurrent clients.
    origin.behave(Behaviour::Slow(Duration::from_millis(500)));
    let answers = futures::future::join_all((0..8).map(async |_| edge.get(&path(b"config")).await)).await;
    for answer in answers {
        assert_eq!(refusal(answer).await, missing, "the backend has put nothing there");
    }
    assert!(!origin.seen().is_empty());
    let seen = origin.seen().pop().expect("a request");
    assert_eq!(seen.uri, "/v2/shell/git/manifests/latest");
    assert_eq!(seen.headers["x-firn-missing"], Digest::of(b"config").to_string());
}

/// If the backend no longer has the image, the edge removes it from its caches.
#[tokio::test]
async fn an_image_that_cannot_be_made_again_is_forgotten() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_BLOBS", "r2")).await;
    put_image(&edge, "shell/git").await;
    let tag = "/v2/shell/git/manifests/latest";
    let blob = format!("/v2/shell/git/blobs/{}", Digest::of(b"config"));
    assert_eq!(edge.get(tag).await.status(), 200);
    // As long as the backend is unavailable, the rest of the image is served.
    origin.behave(Behaviour::Refuse(OciError::new(ErrorCode::Unavailable, "out of order")));
    assert_eq!(edge.get(&blob).await.status(), 404);
    assert_eq!(edge.get(tag).await.status(), 200);
    origin.behave(Behaviour::Refuse(OciError::new(ErrorCode::NameUnknown, "there is no git")));
    assert_eq!(edge.get(&blob).await.status(), 404);
    // KV repeats here what was read before it was deleted.
    edge.renew_kv().await;
    assert_eq!(refusal(edge.get(tag).await).await, (404, "NAME_UNKNOWN".to_owned()));
}

/// The manifest that has the blob is in an index. The image that the index belongs to is made again, or forgotten with all
/// of its manifests.
#[tokio::test]
async fn a_missing_blob_of_a_manifest_in_an_index_is_made_again() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_BLOBS", "r2")).await;
    origin.behave(Behaviour::Index);
    let tag = "/v2/shell/git/manifests/latest";
    let index = edge.get(tag).await.bytes().await.expect("a body");
    edge.await_manifest(&Digest::of(&index).to_string()).await;
    let index = Document::parse(&index).expect("an index");
    let listed: Vec<Digest> = index.children().map(|child| child.descriptor.digest).collect();
    let manifest = format!("/v2/shell/git/manifests/{}", listed[1]);
    assert_eq!(edge.get(&manifest).await.status(), 200);

    let config = Origin::listed_config(1);
    let blob = format!("/v2/shell/git/blobs/{config}");
    let missing = (404, "BLOB_UNKNOWN".to_owned());
    assert_eq!(refusal(edge.get(&blob).await).await, missing, "the backend has put nothing there");
    let seen = origin.seen().pop().expect("a request");
    assert_eq!(seen.uri, tag);
    assert_eq!(seen.headers["x-firn-missing"], config.to_string());
    assert_eq!(edge.get(&manifest).await.status(), 200, "the image is still there");

    origin.behave(Behaviour::Refuse(OciError::new(ErrorCode::NameUnknown, "there is no git")));
    assert_eq!(refusal(edge.get(&blob).await).await, missing);
    edge.renew_kv().await;
    for gone in [tag, manifest.as_str()] {
        assert_eq!(refusal(edge.get(gone).await).await, (404, "NAME_UNKNOWN".to_owned()), "{gone}");
    }
}
