//! What caches in front of the Worker are told they may keep. Without a word, Workers Cache keeps a 200 for two hours and
//! a 404 for three minutes.

use crate::{access::private, header, pair};
use firn_shared::{link::object_key::blob_key, oci::digest::Digest};
use firn_tests::edge::{Behaviour, Edge, Settings};
use reqwest::{Method, Response};

const TAG: &str = "/v2/git/htop/manifests/latest";

async fn get(edge: &Edge, path: &str) -> Response {
    let request = edge.request(Method::GET, path).basic_auth("ann", Some("secret"));
    request.send().await.expect("an answer")
}

fn blob(digest: &Digest) -> String {
    format!("/v2/htop/git/blobs/{digest}")
}

/// The longest time, in seconds, for which an answer may be repeated.
fn lifetime(cache_control: &str) -> u64 {
    let seconds = |name: &str| {
        let directive = cache_control.split(", ").find_map(|part| part.strip_prefix(name));
        directive.map_or(0, |value| value.parse::<u64>().expect("seconds"))
    };
    seconds("max-age=") + seconds("stale-while-revalidate=").max(seconds("stale-if-error="))
}

#[tokio::test]
async fn what_is_good_is_kept_for_a_while() {
    let (edge, _origin) = pair(|settings| settings.with("FIRN_REPORT_SECONDS", "1000")).await;
    let check = async |path: &str, tags: &str, longest: u64| {
        for (method, known) in [(Method::GET, ""), (Method::HEAD, ""), (Method::GET, "*")] {
            let request = edge.request(method, path).header("if-none-match", known);
            let response = request.send().await.expect("an answer");
            let cache_control = header(&response, "cache-control");
            assert!(cache_control.starts_with("public, max-age="), "{path}: {cache_control}");
            assert!(!cache_control.contains("max-age=0"), "{path}: {cache_control}");
            assert!(lifetime(cache_control) <= longest, "{path}: {cache_control}");
            assert_eq!(header(&response, "cache-tag"), tags, "{path}");
        }
    };
    let digest = header(&get(&edge, TAG).await, "docker-content-digest").to_owned();
    check("/v2/", "", 300).await;
    check(TAG, "image/git/htop,tag/latest", 60).await;
    // Every spelling of a name is the same image.
    check("/v2/htop/git/manifests/v1", "image/git/htop,tag/v1", 60).await;
    // Half of what the backend waits before it deletes, and that is for two tiers.
    check(&format!("/v2/git/htop/manifests/{digest}"), &format!("image/git/htop,{digest}"), 250).await;
    check("/v2/git/tags/list", "image/git", 60).await;
    check(&format!("/v2/git/referrers/{digest}"), "", 300).await;
}

#[tokio::test]
async fn tags_that_do_not_count_for_long_are_not_kept() {
    let (edge, _origin) = pair(|settings| settings.with("FIRN_TAG_TTL_SECONDS", "0")).await;
    assert_eq!(header(&get(&edge, TAG).await, "cache-control"), "no-store");
}

/// A redirect to an address that everybody may use is for everybody. A signed one is for one client.
#[tokio::test]
async fn redirects_are_kept_for_whom_they_are() {
    let digest = Digest::of(b"blob");
    let check = async |settings: &[(&str, &str)], expect: &str| {
        let all = |base| settings.iter().fold(base, |base: Settings, (name, value)| base.with(name, value));
        let (edge, _origin) = pair(all).await;
        let response = get(&edge, &blob(&digest)).await;
        assert_eq!((response.status().as_u16(), header(&response, "cache-control")), (307, expect));
    };
    let public = [("FIRN_BLOBS", "public"), ("FIRN_BLOBS_URL", "https://b.example")];
    check(&public, "public, max-age=86400").await;
    check(&[], "public, max-age=86400").await;
    check(&[("FIRN_SECRET", "s3cret")], "private, max-age=150").await;
}

#[tokio::test]
async fn errors_are_not_kept() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_BLOBS", "r2")).await;
    let none = Digest::of(b"none");
    for path in [
        "/v2/_catalog".to_owned(),
        "/v2/git/manifests/-x".to_owned(),
        format!("/v2/git/manifests/sha256-{}.sig", none.hex()),
        format!("/v2/git/manifests/{none}"),
        blob(&none),
        "/builds/none".to_owned(),
    ] {
        let response = get(&edge, &path).await;
        assert!(!response.status().is_success(), "{path}");
        assert_eq!(header(&response, "cache-control"), "no-store", "{path}");
        assert_eq!(header(&response, "cache-tag"), "", "{path}");
    }
    origin.behave(Behaviour::Garbage(502));
    assert_eq!(header(&get(&edge, TAG).await, "cache-control"), "no-store");
    let delete = edge.request(Method::DELETE, TAG).send().await.expect("an answer");
    assert_eq!((delete.status().as_u16(), header(&delete, "cache-control")), (405, "no-store"));
    // A range that cannot be had is no reason to refuse the blob to the next client.
    let digest = Digest::of(b"blob");
    edge.put("r2", &blob_key(&digest), b"blob".to_vec(), None).await;
    let ranged = edge.request(Method::GET, &blob(&digest)).header("range", "bytes=9-");
    let ranged = ranged.send().await.expect("an answer");
    assert_eq!((ranged.status().as_u16(), header(&ranged, "cache-control")), (416, "no-store"));
    for path in ["/healthz", "/healthz?deep"] {
        assert_eq!(header(&get(&edge, path).await, "cache-control"), "no-store");
    }
}

/// Workers Cache asks nobody for a password.
#[tokio::test]
async fn nothing_of_a_private_edge_is_kept() {
    let (edge, _origin) = pair(|settings| private(settings).with("FIRN_BLOBS", "r2")).await;
    let config = Digest::of(b"config");
    edge.put("r2", &blob_key(&config), b"config".to_vec(), None).await;
    let manifest = get(&edge, TAG).await;
    let by_digest = format!("/v2/git/htop/manifests/{}", header(&manifest, "docker-content-digest"));
    for path in ["/v2/", TAG, &by_digest, &blob(&config), "/v2/git/tags/list"] {
        let response = get(&edge, path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert!(header(&response, "cache-control").starts_with("private, "), "{path}");
        assert_eq!(header(&response, "cache-tag"), "", "{path}");
        let refused = edge.get(path).await;
        assert_eq!(
            (refused.status().as_u16(), header(&refused, "cache-control")),
            (401, "no-store"),
            "{path}"
        );
    }
}
