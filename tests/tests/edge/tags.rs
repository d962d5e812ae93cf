//! What the edge knows of what a tag names, how often it asks, and what it serves when a tag moves.

use crate::{header, pair, put_image, refusal};
use firn_shared::{
    link::tag_pointer::TagPointer,
    oci::{
        digest::Digest,
        error::{ErrorCode, OciError},
        media_type::ManifestFormat,
        reference::Tag,
    },
};
use firn_tests::{
    edge::{Behaviour, Edge, Origin, Settings},
    wait::{LONG, eventually},
};
use futures::future::join_all;
use std::time::Duration;

const TAG: &str = "/v2/shell/git/manifests/latest";

/// The digest of an image of a package set.
fn digest(name: &str, set: &str) -> String {
    Digest::of(&Origin::manifest(name, set, ManifestFormat::Oci)).to_string()
}

async fn served(edge: &Edge, path: &str) -> String {
    header(&edge.get(path).await, "docker-content-digest").to_owned()
}

/// What KV has as the pointer of `latest`.
async fn pointer(edge: &Edge) -> String {
    let key = format!("/.test/kv/{}", TagPointer::key(&Tag::default()));
    edge.get(&key).await.text().await.expect("a text")
}

/// The images come from KV, and the backend is asked about their tag, not about them.
#[tokio::test]
async fn a_tag_is_checked_once_for_all_its_images() {
    let (edge, origin) = pair(Settings::forgetful).await;
    let names: Vec<String> = (0..20).map(|i| format!("image{i}")).collect();
    for name in &names {
        put_image(&edge, name).await;
    }
    let paths: Vec<String> = names.iter().map(|name| format!("/v2/{name}/manifests/latest")).collect();
    for answer in join_all(paths.iter().map(async |path| edge.get(path).await)).await {
        assert_eq!((answer.status().as_u16(), header(&answer, "x-firn-source")), (200, "kv"));
    }
    assert_eq!(origin.checked(), ["latest"]);
    assert!(origin.seen().is_empty());
}

/// KV is written when something has changed, and not because it was checked again.
#[tokio::test]
async fn what_has_not_changed_is_not_written() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_TAG_TTL_SECONDS", "1")).await;
    assert_eq!(edge.get(TAG).await.status(), 200);
    edge.await_keys(3).await;
    let written = pointer(&edge).await;
    eventually("the tag is checked again and again", async || {
        assert_eq!(edge.get(TAG).await.status(), 200);
        (origin.checked().len() >= 3).then_some(())
    })
    .await;
    assert_eq!(pointer(&edge).await, written);
    assert_eq!(origin.seen().len(), 1, "the image is not asked for again");
}

/// A location checks a tag itself if there are no objects that do.
#[tokio::test]
async fn tags_move_without_objects() {
    let settings =
        |settings: Settings| Settings { tags: false, ..settings.with("FIRN_TAG_TTL_SECONDS", "1") };
    let (edge, origin) = pair(settings).await;
    assert_eq!(served(&edge, TAG).await, digest("shell/git", "set-1"));
    origin.move_to("set-2");
    let moved = digest("shell/git", "set-2");
    eventually("the tag moves", async || (served(&edge, TAG).await == moved).then_some(())).await;
    eventually("KV knows", async || pointer(&edge).await.contains("set-2").then_some(())).await;
}

/// Nobody waits for an image that is made because its tag has moved.
#[tokio::test]
async fn the_old_image_is_served_while_the_new_one_is_made() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_TAG_TTL_SECONDS", "1")).await;
    assert_eq!(served(&edge, TAG).await, digest("shell/git", "set-1"));
    edge.await_keys(3).await;
    origin.move_to("set-2");
    origin.behave(Behaviour::Slow(Duration::from_secs(4)));
    let mut answers = Vec::new();
    eventually("the tag moves", async || {
        let response = edge.get(TAG).await;
        assert_eq!(response.status(), 200);
        answers.push(header(&response, "x-firn-source").to_owned());
        (header(&response, "docker-content-digest") == digest("shell/git", "set-2")).then_some(())
    })
    .await;
    assert!(answers.iter().skip(1).all(|source| source == "cache"), "nobody has waited: {answers:?}");
    assert_eq!(origin.seen().len(), 2, "the backend was asked once for each image");
}

/// An image that there is no longer is not served for long.
#[tokio::test]
async fn a_refusal_ends_the_old_image() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_TAG_TTL_SECONDS", "1")).await;
    assert_eq!(edge.get(TAG).await.status(), 200);
    edge.await_keys(3).await;
    origin.move_to("set-2");
    origin.behave(Behaviour::Refuse(OciError::new(ErrorCode::NameUnknown, "there is no git")));
    let refused = eventually("the image ends", async || {
        let response = edge.get(TAG).await;
        (response.status() != 200).then_some(response)
    })
    .await;
    assert_eq!(refusal(refused).await, (404, "NAME_UNKNOWN".to_owned()));
}

/// A branch that was deleted.
#[tokio::test]
async fn a_tag_that_is_gone_is_refused() {
    let (edge, origin) = pair(|settings| settings).await;
    put_image(&edge, "shell/git").await;
    origin.behave(Behaviour::Refuse(OciError::new(ErrorCode::ManifestUnknown, "there is no such branch")));
    for _ in 0..3 {
        assert_eq!(refusal(edge.get(TAG).await).await, (404, "MANIFEST_UNKNOWN".to_owned()));
    }
    assert_eq!(origin.checked().len(), 1, "the object remembers it for a while");
    assert!(origin.seen().is_empty());
}

/// One client waits for a backend that hangs. The others get the old image at once.
#[tokio::test]
async fn a_backend_that_hangs_is_remembered() {
    let (edge, origin) = pair(Settings::forgetful).await;
    for i in 0..6 {
        put_image(&edge, &format!("image{i}")).await;
    }
    origin.behave(Behaviour::Slow(LONG));
    for i in 0..6 {
        let response = edge.get(&format!("/v2/image{i}/manifests/latest")).await;
        assert_eq!((response.status().as_u16(), header(&response, "x-firn-source")), (200, "kv"));
        assert_eq!(origin.checked().len(), 1, "only the first has asked");
    }
    assert!(origin.seen().is_empty());
}
