use super::*;
use crate::{
    build::{Limits, Recipe},
    config::NixArgs,
    nix::Nix,
    package_set::PackageSet,
    packing::{Encoder, Packer},
    store::Store,
};
use axum::body::Body;
use clap::Parser;
use firn_shared::{
    layering::Sharing,
    package_source::{PackageSource, Revisions},
    platform::Platform,
};
use std::path::Path;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    nix: NixArgs,
}

/// A registry on an empty directory, which is no package set: nothing here may get as far as finding out.
fn app(dir: &Path) -> App {
    let store = Store::open("memory://", &dir.join("staging")).expect("a store");
    let nix = Nix::new(&Options::parse_from(["test"]).nix, dir).expect("a directory for state");
    let packages = PackageSet::new(PackageSource::Path(dir.join("none")), Revisions::Any);
    let packer = Packer::new(Encoder::GZIP, std::num::NonZeroUsize::MIN).expect("threads");
    let recipe = Recipe {
        strategy: Box::new(Sharing::default()),
        layer_budget: 94,
        platform: Platform::Amd64,
        allow_unfree: false,
    };
    let limits = Limits {
        queue: 1,
        closure_bytes: 1 << 30,
        failure_ttl: Duration::from_secs(1),
        grace: Duration::from_secs(1),
    };
    App {
        builder: Builder::new(store, nix, packages, packer, recipe, limits),
        secret: None,
        wait: Duration::from_secs(1),
        ending: watch::channel(false).1,
        manifests: ReadyManifests::default(),
    }
}

/// A text as a URL's path carries it: every byte that is not plain is escaped.
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
    let app = app(dir.path());
    let names = corpus(include_str!("../../../shared/testdata/hostile-names.json"));
    let mut answered = 0;
    for name in &names {
        for text in [escaped(name), name.clone()] {
            for path in [format!("/v2/{text}/manifests/latest"), format!("/v2/{text}/tags/list")] {
                // Raw, some are no URLs: no HTTP server gets to see those.
                let Ok(request) = Request::builder().uri(&path).body(Body::empty()) else { continue };
                let (parts, _) = request.into_parts();
                // What follows a `?` or `#` is no part of the path: what is left may be a name.
                if parts.uri.path() != path {
                    continue;
                }
                let error = answer(&app, &parts).await.expect_err("a hostile name");
                assert!((400..405).contains(&error.status()), "{path:.100}: {}", error.status());
                answered += 1;
            }
        }
    }
    assert!(answered >= 2 * names.len(), "{answered} answers to {} names", names.len());
    assert_eq!(app.builder.nix().processes(), 0, "no Nix was started");
}
