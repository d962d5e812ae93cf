//! The backend learns of pulls that the edge answers.

use crate::{header, pair, put_image};
use firn_shared::oci::digest::Digest;
use firn_tests::{edge::Origin, wait::eventually};

fn path(name: &str) -> String {
    format!("/v2/{name}/manifests/latest")
}

async fn reported(origin: &Origin, digest: &Digest) {
    eventually("it is reported", async || origin.reports().concat().contains(digest).then_some(())).await;
}

#[tokio::test]
async fn pulls_are_reported_once_in_a_while() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_REPORT_SECONDS", "5000")).await;
    let popular = put_image(&edge, "popular").await;
    for _ in 0..3 {
        assert_eq!(edge.head(&path("popular")).await.status(), 200);
        assert_eq!(edge.get(&path("popular")).await.status(), 200);
        reported(&origin, &popular).await;
    }
    // Later ones wait, and are sent together.
    let mut others = Vec::new();
    for n in 0..32 {
        let name = format!("other{n}");
        others.push(put_image(&edge, &name).await);
        assert_eq!(edge.get(&path(&name)).await.status(), 200);
    }
    reported(&origin, &others[31]).await;
    let reports = origin.reports();
    assert_eq!(reports.iter().map(Vec::len).collect::<Vec<_>>(), [1, 32]);
    assert!(origin.seen().is_empty());
}

/// The backend knows of the pulls that it has answered itself.
#[tokio::test]
async fn what_the_backend_has_answered_is_not_reported() {
    let (edge, origin) = pair(|settings| settings).await;
    let mut sources = Vec::new();
    for _ in 0..2 {
        sources.push(header(&edge.get(&path("asked")).await, "x-firn-source").to_owned());
    }
    assert!(sources[0] == "backend" && sources[1] != "backend", "{sources:?}");
    let other = put_image(&edge, "other").await;
    assert_eq!(edge.get(&path("other")).await.status(), 200);
    reported(&origin, &other).await;
    assert_eq!(origin.reports(), [[other]]);
}

/// An image that the backend is about to delete is requested again before a client misses it.
#[tokio::test]
async fn what_the_backend_does_not_keep_is_forgotten() {
    let (edge, origin) = pair(|settings| settings).await;
    let popular = put_image(&edge, "popular").await;
    origin.drop_manifests(&[popular]);
    let source = async || header(&edge.get(&path("popular")).await, "x-firn-source").to_owned();
    assert_eq!(source().await, "kv");
    eventually("it is reported", async || (!origin.reports().is_empty()).then_some(())).await;
    eventually("the backend is asked", async || {
        // KV repeats here what was read before it was deleted.
        edge.renew_kv().await;
        (source().await == "backend").then_some(())
    })
    .await;
    assert_eq!(origin.seen().len(), 1);
}
