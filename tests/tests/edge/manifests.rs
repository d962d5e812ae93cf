//! Manifests by tag and by digest, and the sources that they come from.

use crate::{header, pair, refusal};
use firn_shared::{
    link::tag_pointer::TagPointer,
    oci::{
        digest::Digest,
        entity_tag::entity_tag,
        media_type::{DOCKER_MANIFEST, ManifestFormat, OCI_MANIFEST},
        reference::Tag,
    },
};
use firn_tests::{
    edge::{Behaviour, Origin, Settings},
    wait::eventually,
};
use reqwest::Method;
use std::time::Duration;

const TAG: &str = "/v2/shell/git/manifests/latest";

/// Checks everything that a registry states about a manifest.
fn assert_describes(response: &reqwest::Response, bytes: &[u8], media_type: &str) {
    let digest = Digest::of(bytes);
    assert_eq!(response.status(), 200);
    assert_eq!(header(response, "content-type"), media_type);
    assert_eq!(header(response, "content-length"), bytes.len().to_string());
    assert_eq!(header(response, "docker-content-digest"), digest.to_string());
    assert_eq!(header(response, "etag"), entity_tag(&digest));
    assert_eq!(header(response, "docker-distribution-api-version"), "registry/2.0");
    assert_eq!(header(response, "x-firn-revision"), "revision of set-1");
}

#[tokio::test]
async fn the_backend_is_asked_once() {
    let (edge, origin) = pair(|settings| settings).await;
    let bytes = Origin::manifest("shell/git", "set-1", ManifestFormat::Oci);
    // A client resolves the tag by HEAD, then gets the digest.
    let response = edge.head(TAG).await;
    assert_describes(&response, &bytes, OCI_MANIFEST);
    assert_eq!(header(&response, "x-firn-source"), "backend");
    edge.await_keys(3).await;
    // containerd names the original registry when it asks a mirror.
    let mirrored = format!("{TAG}?ns=docker.io");
    for path in [TAG, &mirrored, &format!("/v2/shell/git/manifests/{}", Digest::of(&bytes))] {
        let response = edge.get(path).await;
        assert_describes(&response, &bytes, OCI_MANIFEST);
        assert!(["kv", "cache"].contains(&header(&response, "x-firn-source")), "{path}");
        assert_eq!(response.bytes().await.expect("a body"), bytes);
        let response = edge.head(path).await;
        assert_describes(&response, &bytes, OCI_MANIFEST);
        assert!(response.bytes().await.expect("a body").is_empty());
    }
    assert_eq!(origin.seen().len(), 1, "{:?}", origin.seen());
}

#[tokio::test]
async fn kv_answers_where_the_location_knows_nothing() {
    let (edge, origin) = pair(Settings::forgetful).await;
    let bytes = edge.get(TAG).await.bytes().await.expect("a body");
    let keys = edge.await_keys(3).await;
    let by_digest = format!("/v2/shell/git/manifests/{}", Digest::of(&bytes));
    for path in
        [TAG, &by_digest, "/v2/shell/git/git/manifests/latest", "/v2/other/name/manifests/latest?ns=x"]
    {
        let response = edge.get(path).await;
        let expect = if path.contains("other") { "backend" } else { "kv" };
        assert_eq!(header(&response, "x-firn-source"), expect, "{path}");
    }
    assert_eq!(origin.seen().len(), 2);
    let described = keys.iter().filter(|(_, metadata)| metadata["digest"] == Digest::of(&bytes).to_string());
    assert_eq!(described.count(), 2, "{keys:?}");
    assert!(keys.iter().all(|(key, _)| key.len() == 64));
}

#[tokio::test]
async fn a_client_that_has_it_gets_304() {
    let (edge, _origin) = pair(|settings| settings).await;
    let tag = header(&edge.head(TAG).await, "etag").to_owned();
    for (known, expect) in [(tag.as_str(), 304), (&format!("W/{tag}, \"x\""), 304), ("\"x\"", 200)] {
        let request = edge.request(Method::GET, TAG).header("if-none-match", known);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), expect, "{known}");
        assert_eq!(header(&response, "etag"), tag);
    }
    // Several lines are one list.
    let request = edge.request(Method::GET, TAG).header("if-none-match", "\"x\"");
    let response = request.header("if-none-match", &tag).send().await.expect("an answer");
    assert_eq!(response.status(), 304);
}

#[tokio::test]
async fn clients_get_the_format_that_they_accept() {
    let (edge, origin) = pair(|settings| settings).await;
    for round in 0..2 {
        for (accept, expect) in [
            (vec![DOCKER_MANIFEST], DOCKER_MANIFEST),
            // As skopeo does: one line per type.
            (vec![DOCKER_MANIFEST, OCI_MANIFEST], OCI_MANIFEST),
            (vec!["*/*"], OCI_MANIFEST),
            (vec!["application/vnd.oci.image.manifest.v1+json;q=0", "*/*"], DOCKER_MANIFEST),
        ] {
            let mut request = edge.request(Method::GET, TAG);
            for line in &accept {
                request = request.header("accept", *line);
            }
            let response = request.send().await.expect("an answer");
            assert_eq!(header(&response, "content-type"), expect, "{accept:?} in round {round}");
        }
    }
    assert_eq!(origin.seen().len(), 2, "one question a format");
}

#[tokio::test]
async fn tags_move_and_commits_do_not() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_TAG_TTL_SECONDS", "1")).await;
    let commit = format!("/v2/shell/git/manifests/{}", "0a".repeat(20));
    let (first, pinned) = (edge.get(TAG).await, edge.get(&commit).await);
    edge.await_keys(4).await;
    origin.move_to("set-2");
    let moved = Digest::of(&Origin::manifest("shell/git", "set-2", ManifestFormat::Oci)).to_string();
    eventually("the tag moves", async || {
        (header(&edge.get(TAG).await, "docker-content-digest") == moved).then_some(())
    })
    .await;
    let again = edge.get(&commit).await;
    assert_eq!(header(&again, "docker-content-digest"), header(&pinned, "docker-content-digest"));
    // A manifest that was pulled by digest stays.
    let old = format!("/v2/shell/git/manifests/{}", header(&first, "docker-content-digest"));
    assert_eq!(edge.get(&old).await.status(), 200);
    // Without the backend, the tag is what it was last, however old that is.
    let pointer = format!("/.test/kv/{}", TagPointer::key(&Tag::default()));
    eventually("KV knows what the tag names", async || {
        edge.get(&pointer).await.text().await.expect("a pointer").contains("set-2").then_some(())
    })
    .await;
    edge.await_manifest(&moved).await;
    origin.stop();
    // Longer than isolates remember what a tag names.
    edge.advance(Duration::from_secs(15)).await;
    let stale = edge.get(TAG).await;
    assert_eq!((stale.status().as_u16(), header(&stale, "docker-content-digest")), (200, moved.as_str()));
}

#[tokio::test]
async fn nonsense_is_refused_here() {
    let (edge, origin) = pair(|settings| settings).await;
    for (path, expect) in [
        ("/v2/Git/manifests/latest", (400, "NAME_INVALID")),
        ("/v2/arm64/manifests/latest", (400, "NAME_INVALID")),
        ("/v2/a/../../b/manifests/latest", (404, "NAME_UNKNOWN")),
        ("/v2/git%00/manifests/latest", (400, "NAME_INVALID")),
        ("/v2/git/manifests/-x", (404, "MANIFEST_UNKNOWN")),
        ("/v2/git/manifests/sha256:baddigest", (400, "DIGEST_INVALID")),
        ("/v2/git/blobs/sha256:baddigest", (400, "DIGEST_INVALID")),
        ("/v2/git/unknown/latest", (404, "NAME_UNKNOWN")),
        ("/v2/_catalog", (404, "UNSUPPORTED")),
        ("/", (404, "NAME_UNKNOWN")),
    ] {
        let (status, code) = refusal(edge.get(path).await).await;
        assert_eq!((status, code.as_str()), expect, "{path}");
        let response = edge.head(path).await;
        assert_eq!(response.status(), expect.0, "HEAD {path}");
        assert_ne!(header(&response, "content-length"), "0", "HEAD {path}");
    }
    let long = format!("/v2/{}/manifests/latest", "a".repeat(300));
    assert_eq!(refusal(edge.get(&long).await).await, (400, "NAME_INVALID".to_owned()));
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let response = edge.request(method, TAG).body("x").send().await.expect("an answer");
        assert_eq!(header(&response, "allow"), "GET, HEAD");
        assert_eq!(refusal(response).await, (405, "UNSUPPORTED".to_owned()));
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

#[tokio::test]
async fn discovery() {
    let (edge, origin) = pair(|settings| settings).await;
    let base = edge.get("/v2/").await;
    assert_eq!(
        (base.status().as_u16(), header(&base, "docker-distribution-api-version")),
        (200, "registry/2.0")
    );
    assert_eq!(edge.get("/healthz").await.status(), 200);
    assert!(origin.seen().is_empty());
    let response = edge.get("/v2/git/tags/list?n=1").await;
    assert_eq!(header(&response, "link"), "</v2/git/tags/list?n=1&last=latest>; rel=\"next\"");
    assert_eq!(response.text().await.expect("a body"), r#"{"name":"git","tags":["latest"]}"#);
    assert_eq!(origin.seen()[0].uri, "/v2/git/tags/list?n=1");
}

#[tokio::test]
async fn referrers_are_the_backends() {
    let (edge, origin) = pair(|settings| settings).await;
    let (known, unknown) = (Origin::referred(), Digest::of(b""));
    let referrers = |digest: &Digest, query: &str| format!("/v2/git/referrers/{digest}{query}");
    let text = async |path: String| edge.get(&path).await.text().await.expect("a body");
    let all = String::from_utf8(Origin::referrers()).expect("UTF-8");
    assert_eq!(text(referrers(&known, "")).await, all);
    assert_eq!(origin.seen()[0].uri, format!("/v2/git/manifests/sha256-{}", known.hex()));
    // It is asked once, also for a client that asks by tag or for a type.
    let response = edge.get(&referrers(&known, "?artifactType=application%2Fspdx%2Bjson")).await;
    assert_eq!(header(&response, "content-type"), "application/vnd.oci.image.index.v1+json");
    assert_eq!(header(&response, "oci-filters-applied"), "artifactType");
    assert_eq!(response.text().await.expect("a body"), all);
    assert!(text(referrers(&known, "?artifactType=a/b")).await.contains("\"manifests\":[]"));
    let by_tag = edge.get(&format!("/v2/git/manifests/sha256-{}", known.hex())).await;
    assert_eq!(header(&by_tag, "docker-content-digest"), Digest::of(all.as_bytes()).to_string());
    assert_eq!(by_tag.text().await.expect("a body"), all);
    assert_eq!(origin.seen().len(), 1);
    // Nothing is said for long of what nothing refers to.
    assert!(text(referrers(&unknown, "")).await.contains("\"manifests\":[]"));
    let none = edge.get(&format!("/v2/git/manifests/sha256-{}", unknown.hex())).await;
    assert_eq!(refusal(none).await, (404, "MANIFEST_UNKNOWN".to_owned()));
    assert_eq!(origin.seen().len(), 3);
    // Without the backend, nobody knows whether there is something.
    origin.behave(Behaviour::Garbage(500));
    assert_eq!(edge.get(&referrers(&unknown, "")).await.status(), 503);
}
