//! Requests over HTTP for names that are invalid.

mod builder;

use axum::{body::Body, http::Request};
use builder::builder;
use firn_backend::{
    http::{App, MetricsAccess, ReadyManifests, router},
    package_set::PackageSet,
    store::Store,
};
use firn_shared::naming::package_source::{PackageSource, Revisions};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tower::ServiceExt;

/// The text as part of a URL's path. Special bytes are percent-encoded.
fn escaped(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-/".contains(b);
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn corpus(json: &str) -> Vec<String> {
    let texts: Vec<serde_json::Value> = serde_json::from_str(json).expect("a list");
    texts
        .iter()
        .map(|text| match text.as_str() {
            Some(text) => text.to_owned(),
            None => {
                let times = text["times"].as_u64().expect("a number").try_into().expect("a small one");
                text["repeat"].as_str().expect("a text").repeat(times)
            }
        })
        .collect()
}

#[tokio::test]
async fn hostile_names_are_refused_before_nix() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open("memory://", &dir.path().join("staging")).expect("a store");
    // There is no repository: no request here may get far enough to look for it.
    let url = format!("file://{}", dir.path().join("none").display());
    let source = PackageSource::Git { url: url.as_str().into(), default: None, flake: None };
    let packages = PackageSet::new(source, Revisions::Any, dir.path(), Duration::from_secs(60));
    let builder = builder(store, packages.expect("a directory"), dir.path());
    let registry = router(App {
        builder: Arc::clone(&builder),
        secret: None,
        metrics: MetricsAccess::Open,
        wait: Duration::from_secs(1),
        ending: watch::channel(false).1,
        manifests: ReadyManifests::new(Duration::from_secs(60)),
    });
    let names = corpus(include_str!("../../shared/testdata/hostile-names.json"));
    // These are names of repositories, but not of images.
    let no_images = ["shell/user/root", "arm64", "arm64/amd64/hello", "user"].map(str::to_owned);
    let mut answered = 0;
    for name in names.iter().chain(&no_images) {
        for text in [escaped(name), name.clone()] {
            for path in [format!("/v2/{text}/manifests/latest"), format!("/v2/{text}/tags/list")] {
                // Some of them are not URLs unless they are encoded. No HTTP server sees those.
                let Ok(request) = Request::builder().uri(&path).body(Body::empty()) else { continue };
                // What follows `?` or `#` is not part of the path. The rest may be a name.
                if request.uri().path() != path {
                    continue;
                }
                let response = registry.clone().oneshot(request).await.expect("an answer");
                let status = response.status().as_u16();
                assert!((400..405).contains(&status), "{path:.100}: {status}");
                answered += 1;
            }
        }
    }
    assert!(answered >= 2 * names.len(), "{answered} answers to {} names", names.len());
    assert_eq!(builder.nix().processes(), 0, "no Nix was started");
}
