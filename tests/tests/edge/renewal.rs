//! What is pulled stays in KV.

use crate::{pair, put_image};
use firn_shared::{
    cache_key::CacheKey,
    link::{
        edge_cache::{ManifestMetadata, digest_key, manifest_key},
        object_key::composed_key,
    },
    oci::{digest::Digest, media_type::ManifestFormat},
};
use firn_tests::{
    edge::{Edge, Origin, Settings},
    wait::eventually,
};

/// When the manifests with this digest were last written, in seconds since 1970.
async fn written(edge: &Edge, digest: &Digest) -> Vec<u64> {
    let digest = digest.to_string();
    let keys = edge.keys().await.into_iter().filter(|(_, metadata)| metadata["digest"] == digest.as_str());
    keys.map(|(_, metadata)| metadata["created"].as_u64().expect("a time")).collect()
}

/// Puts an old manifest into KV, by its digest.
async fn put_digest(edge: &Edge, name: &str, composed: bool) -> Digest {
    put_old(edge, name, composed, digest_key).await
}

async fn put_old(edge: &Edge, name: &str, composed: bool, key: impl Fn(&Digest) -> CacheKey) -> Digest {
    let format = ManifestFormat::Oci;
    let bytes = Origin::manifest(name, "set-1", format);
    let digest = Digest::of(&bytes);
    let media_type = format.manifest().into();
    let metadata = ManifestMetadata { digest, media_type, revision: None, created: 0, composed };
    let metadata = serde_json::to_string(&metadata).expect("texts and numbers serialise");
    edge.put("kv", &key(&digest).to_string(), bytes, Some(&metadata)).await;
    digest
}

async fn renewed(edge: &Edge, path: &str, digest: &Digest) {
    eventually("it is renewed", async || {
        assert_eq!(edge.get(path).await.status(), 200);
        written(edge, digest).await.iter().all(|written| *written > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_read_is_written_again_before_it_expires() {
    let (edge, origin) = pair(Settings::forgetful).await;
    put_image(&edge, "shell/git").await;
    let (set, name) = ("set-1".parse().expect("a token"), "shell/git".parse().expect("a name"));
    let key = |_: &Digest| manifest_key(&set, &name, ManifestFormat::Oci);
    let digest = put_old(&edge, "shell/git", false, key).await;
    assert_eq!(written(&edge, &digest).await, [0]);
    renewed(&edge, "/v2/shell/git/manifests/latest", &digest).await;
    let digest = put_digest(&edge, "jq", false).await;
    renewed(&edge, &format!("/v2/jq/manifests/{digest}"), &digest).await;
    assert!(origin.seen().is_empty());
}

/// The backend does not know who pulls a composed image, so the edge says what it needs.
#[tokio::test]
async fn the_blobs_of_a_composed_image_stay_as_well() {
    let (edge, _origin) = pair(|settings| settings.forgetful().with("FIRN_BLOBS", "r2")).await;
    let digest = put_digest(&edge, "jq", true).await;
    renewed(&edge, &format!("/v2/jq/manifests/{digest}"), &digest).await;
    let operations = edge.as_ref().operations().await;
    let marker = composed_key(&Digest::of(b"config"));
    assert!(operations.iter().any(|line| line.contains(&marker)), "{operations:#?}");
}
