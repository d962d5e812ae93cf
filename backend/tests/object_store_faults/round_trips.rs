//! Counts the requests to an object store: a bucket may be far away.

use crate::{
    builder::builder,
    faulty::{Fault, Faulty},
    objects::written,
    site::{Site, image},
};
use firn_backend::{
    http::{App, MetricsAccess, ReadyManifests, router},
    package_set::PackageSet,
};
use firn_shared::{
    Digest,
    cache_key::CacheKey,
    naming::{
        image_name::ImageName,
        package_source::{PackageSource, Revisions},
    },
    oci::{
        document::{Document, ImageManifest},
        media_type::ManifestFormat,
    },
};
use firn_tests::random::Random;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tower::ServiceExt;

/// Independent objects are written concurrently. The first request for an image checks each of its parts once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn independent_objects_are_written_concurrently_and_checked_once() {
    let site = Site::new("independent_objects_are_written_concurrently_and_checked_once", 4);
    let name: ImageName = "p0/p1".parse().expect("a name");
    let counted = Faulty::new(Arc::default(), Fault::Refused, usize::MAX, &site.random);
    let store = counted.store(&site.staging());
    image(&site.builder(store.clone()), &name).await.expect("an image");
    for name in ["one", "another"] {
        // An edge reports a pull by the digest of an existing object.
        let digest = Digest::of(name.as_bytes());
        store.put_blob(&digest, name.into()).await.expect("stored");
        store.note_pull(&CacheKey::from_bytes(*digest.as_bytes()));
    }
    store.write_pulls().await.expect("written");
    for folder in ["packages", "composition", "pulls"] {
        let [_, most] = counted.writing.lock().expect("unbroken")[folder];
        assert!(most > 1, "what goes to {folder} is written at once");
    }
    let built = counted.steps.load(Ordering::SeqCst);
    image(&site.builder(counted.store(&site.staging())), &name).await.expect("the image");
    let looks = counted.steps.load(Ordering::SeqCst) - built;
    // One look at the record and one at each blob. The config is read, and looked at.
    let blobs = written(&counted.objects, "blobs").await.len() - 2;
    assert!(blobs > 5 && looks == 1 + blobs + 1, "{looks} for {blobs} blobs");
}

/// A whole blob or manifest is one request to the store.
#[tokio::test]
async fn a_whole_blob_is_one_request_to_the_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let random = Random::seeded("a_whole_blob_is_one_request_to_the_store");
    let counted = Faulty::new(Arc::default(), Fault::Refused, usize::MAX, &random);
    let store = counted.store(dir.path());
    let packages = PackageSet::new(
        PackageSource::Path { path: dir.path().to_owned(), flake: None },
        Revisions::Fixed,
        dir.path(),
        Duration::from_secs(60),
    )
    .expect("a directory");
    let config = (Digest::of(b"config"), 6);
    let manifest = ImageManifest::new(ManifestFormat::Oci, config, Vec::new(), BTreeMap::new());
    let manifest = Document::Image(manifest).to_bytes();
    let (digest, large) = (Digest::of(&manifest), vec![7; 5 << 20]);
    let layer = Digest::of(&large);
    store.put_blob(&digest, manifest.clone()).await.expect("stored");
    store.put_blob(&layer, large).await.expect("stored");
    let registry = router(App {
        builder: builder(store, packages, dir.path()),
        secret: None,
        metrics: MetricsAccess::Open,
        wait: Duration::from_secs(1),
        ending: watch::channel(false).1,
        manifests: ReadyManifests::new(Duration::from_secs(60)),
    });
    let get = async |path: &str, range: Option<&str>| {
        let before = counted.steps.load(Ordering::SeqCst);
        let mut request = axum::http::Request::get(path);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let request = request.body(axum::body::Body::empty()).expect("a request");
        let answer = registry.clone().oneshot(request).await.expect("an answer");
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        (status, bytes, counted.steps.load(Ordering::SeqCst) - before)
    };
    let blob = format!("/v2/hello/blobs/{digest}");
    assert_eq!(get(&blob, None).await, (200, manifest.clone().into(), 1));
    assert_eq!(get(&blob, Some("bytes=1-2")).await, (206, manifest[1..3].to_vec().into(), 2));
    assert_eq!(get(&blob, Some("lines=1-2")).await, (200, manifest.clone().into(), 2));
    assert_eq!(get(&format!("/v2/hello/manifests/{digest}"), None).await, (200, manifest.into(), 1));
    // A layer is not a manifest. It is not read to find that out.
    let (status, _, steps) = get(&format!("/v2/hello/manifests/{layer}"), None).await;
    assert_eq!((status, steps), (404, 1));
}
