//! Images that are composed in several places at once, and how long they stay.

use firn_shared::{
    link::{edge_cache::digest_key, tag_pointer::TagPointer},
    oci::{digest::Digest, reference::Tag},
};
use firn_tests::edge::{
    Origin,
    planet::{Planet, Settings},
    records::{Records, token},
};
use futures::future::join_all;
use serde_json::json;
use std::time::Duration;

const IMAGE: &str = "/v2/git/jq/manifests/latest";

async fn planet(origin: &Origin) -> Planet {
    let planet = Planet::start(Settings::new(&origin.named()).with("FIRN_BLOBS", "r2")).await;
    Records::new().put_into_kv(&planet).await;
    planet
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

/// All isolates put the same blobs under the same keys, and R2 takes one write per key and second.
#[tokio::test]
async fn somebody_else_may_be_first() {
    let origin = Origin::start().await;
    let planet = planet(&origin).await;
    let places = ["lhr", "nrt"].into_iter().flat_map(|name| [0, 1].map(|isolate| (name, isolate)));
    let answers =
        join_all(places.map(async |(name, isolate)| planet.at(name).isolate(isolate).get(IMAGE).await)).await;
    for answer in answers {
        assert_eq!((answer.status().as_u16(), header(&answer, "x-firn-source")), (200, "composed"));
    }
    assert!(origin.seen().is_empty());
}

/// What is there is not written again: a write costs twelve times as much as a look.
#[tokio::test]
async fn blobs_are_written_once() {
    let origin = Origin::start().await;
    let planet = planet(&origin).await;
    let (first, _) = planet.bill_for(planet.at("lhr").isolate(0).get(IMAGE)).await;
    assert_eq!(first.r2_class_a, 4, "two blobs and their markers");
    planet.advance(Duration::from_secs(1)).await;
    // KV still says there that there is no such image.
    let (second, answer) = planet.bill_for(planet.at("nrt").isolate(0).get(IMAGE)).await;
    assert_eq!(header(&answer, "x-firn-source"), "composed");
    assert_eq!(second.r2_class_a, 0, "{:#?}", planet.operations().await);
}

/// A deployment that pins a digest pulls it for as long as it likes.
#[tokio::test]
async fn what_is_pulled_stays() {
    let origin = Origin::start().await;
    let planet = planet(&origin).await;
    let composed = planet.at("lhr").get(IMAGE).await;
    let pinned = format!("/v2/git/jq/manifests/{}", header(&composed, "docker-content-digest"));
    planet.settle().await;
    // From now on, nobody can compose or build it.
    origin.stop();
    let moved = TagPointer {
        package_set: "set-2".parse().expect("a token"),
        previous: Some(token()),
        moved: 0,
        checked: 0,
        failed: None,
    };
    let moved = serde_json::to_vec(&moved).expect("it serialises");
    planet.put("kv", &TagPointer::key(&Tag::default()).to_string(), moved, None).await;
    for week in 0..20 {
        planet.advance(Duration::from_secs(7 * 24 * 3600)).await;
        let answer = planet.at("nrt").isolate(0).get(&pinned).await;
        assert_eq!(answer.status(), 200, "in week {week}");
        planet.settle().await;
    }
}

/// A Worker sends few requests for one of its clients, and isolates end. So a location remembers how far it has come.
#[tokio::test]
async fn what_has_many_layers_stays_as_well() {
    let origin = Origin::start().await;
    let planet = Planet::start(Settings::new(&origin.named()).with("FIRN_BLOBS", "r2")).await;
    let layer = |i: u32| {
        json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": Digest::of(&i.to_le_bytes()),
            "size": 1,
        })
    };
    let layers: Vec<_> = (0..40).map(layer).collect();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(b"config"),
            "size": 1,
        },
        "layers": layers,
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = Digest::of(&bytes);
    let metadata = json!({
        "digest": digest, "media_type": media_type, "revision": null, "created": 0, "composed": true,
    });
    planet.put("kv", &digest_key(&digest).to_string(), bytes, Some(&metadata.to_string())).await;
    let mut days = 0;
    while planet.keys().await.iter().any(|(_, metadata)| metadata["created"] == 0) {
        assert!(days < 3, "41 blobs take three days, because each day 16 are marked");
        let isolate = planet.at("lhr").isolate(0);
        let answer = isolate.get(&format!("/v2/jq/manifests/{digest}")).await;
        assert_eq!(answer.status(), 200);
        planet.settle().await;
        isolate.end().await;
        planet.advance(Duration::from_secs(25 * 3600)).await;
        days += 1;
    }
    assert_eq!(days, 3);
}
