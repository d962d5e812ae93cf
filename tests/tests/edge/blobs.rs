//! Blobs: where clients are redirected, and what is read from R2.

use crate::{header, pair, refusal};
use firn_shared::{
    link::{
        authentication::{HEADER, Secret},
        object_key::blob_key,
    },
    oci::digest::Digest,
};
use firn_tests::edge::{Edge, Origin, Settings};
use reqwest::Method;
use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn path(digest: &Digest) -> String {
    format!("/v2/shell/git/blobs/{digest}")
}

#[tokio::test]
async fn clients_are_sent_to_the_backend() {
    let (edge, origin) = pair(|settings| settings).await;
    let (digest, path) = (Digest::of(b"blob"), path(&Digest::of(b"blob")));
    let response = edge.get(&path).await;
    assert_eq!(response.status(), 307);
    assert_eq!(header(&response, "location"), format!("{}{path}", origin.url));
    assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
    assert!(origin.seen().is_empty());
    let response = edge.head(&path).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-length"), "4");
    assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
    assert_eq!(origin.seen()[0].method, "HEAD");
    assert_eq!(edge.head(&self::path(&Digest::of(b"none"))).await.status(), 404);
    // As in the demo: crane and others follow no redirect to a private address.
    let named = origin.url.replace("127.0.0.1", "localhost");
    let edge = Edge::start(Settings::new(&origin.url).with("FIRN_BLOBS_URL", &named)).await;
    assert_eq!(header(&edge.get(&path).await, "location"), format!("{named}{path}"));
    assert_eq!(edge.head(&path).await.status(), 200);
    let elsewhere = Settings::new(&origin.url).with("FIRN_BLOBS_URL", "https://blobs.example/");
    let edge = Edge::start(elsewhere).await;
    assert_eq!(header(&edge.get(&path).await, "location"), format!("https://blobs.example{path}"));
    origin.stop();
}

#[tokio::test]
async fn redirects_to_the_backend_are_signed_for_get() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_SECRET", "s3cret")).await;
    let path = path(&Digest::of(b"blob"));
    let response = edge.get(&path).await;
    let location = header(&response, "location");
    let (address, query) = location.split_once('?').expect("a query");
    assert_eq!(address, format!("{}{path}", origin.url));
    let proof = query.strip_prefix(&format!("{HEADER}=")).expect("a proof");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    assert_eq!(Secret::new("s3cret").verify("GET", &path, Some(proof), now), Ok(()));
    assert_eq!(edge.head(&path).await.status(), 200);
    let seen = origin.seen().pop().expect("a HEAD");
    let proof = seen.uri.split_once(&format!("{HEADER}=")).expect("a proof").1;
    assert_eq!(Secret::new("s3cret").verify("HEAD", &path, Some(proof), now), Ok(()));
}

#[tokio::test]
async fn clients_are_sent_to_buckets() {
    let origin = Origin::start().await;
    let digest = Digest::of(b"blob");
    let public =
        Settings::new(&origin.url).with("FIRN_BLOBS", "public").with("FIRN_BLOBS_URL", "https://b.example");
    let response = Edge::start(public).await.get(&path(&digest)).await;
    assert_eq!(header(&response, "location"), format!("https://b.example/{}", blob_key(&digest)));
    let presigned = Settings::new(&origin.url)
        .with("FIRN_BLOBS", "presigned")
        .with("FIRN_S3_ENDPOINT", "https://s3.example")
        .with("FIRN_S3_BUCKET", "firn")
        .with("FIRN_S3_ACCESS_KEY_ID", "AKID")
        .with("FIRN_S3_SECRET_ACCESS_KEY", "hidden")
        .with("FIRN_S3_SECONDS", "600");
    let response = Edge::start(presigned).await.get(&path(&digest)).await;
    assert_eq!(response.status(), 307);
    let location = header(&response, "location");
    assert!(location.starts_with(&format!("https://s3.example/firn/{}?", blob_key(&digest))), "{location}");
    for part in ["X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Expires=600", "X-Amz-Signature=", "AKID"] {
        assert!(location.contains(part), "{location}");
    }
    assert!(!location.contains("hidden"));
    assert_eq!(header(&response, "cache-control"), "private, max-age=300");
}

#[tokio::test]
async fn r2_is_passed_through() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_BLOBS", "r2")).await;
    let blob: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let (digest, size) = (Digest::of(&blob), blob.len());
    let path = path(&digest);
    edge.put("r2", &blob_key(&digest), blob.clone(), None).await;
    let describes = |response: &reqwest::Response, status: u16, length: usize| {
        assert_eq!(response.status(), status);
        assert_eq!(header(response, "content-length"), length.to_string());
        assert_eq!(header(response, "docker-content-digest"), digest.to_string());
        assert_eq!(header(response, "accept-ranges"), "bytes");
        assert!(header(response, "cache-control").contains("no-transform"));
    };
    let response = edge.get(&path).await;
    describes(&response, 200, size);
    assert_eq!(header(&response, "content-type"), "application/octet-stream");
    assert_eq!(response.bytes().await.expect("a body"), blob);
    describes(&edge.head(&path).await, 200, size);
    for (range, part) in [
        ("bytes=0-", 0..size),
        ("bytes=5-", 5..size),
        ("bytes=5-9", 5..10),
        ("bytes=-7", size - 7..size),
        ("bytes=1199990-99999999", 1_199_990..size),
    ] {
        let request = edge.request(Method::GET, &path).header("range", range);
        let response = request.send().await.expect("an answer");
        describes(&response, 206, part.len());
        let expect = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        assert_eq!(header(&response, "content-range"), expect);
        assert_eq!(response.bytes().await.expect("a body"), blob[part], "{range}");
    }
    let ranged = |range: &str| edge.request(Method::GET, &path).header("range", range).send();
    let response = ranged(&format!("bytes={size}-")).await.expect("an answer");
    assert_eq!((response.status().as_u16(), header(&response, "content-length")), (416, "0"));
    assert_eq!(header(&response, "content-range"), format!("bytes */{size}"));
    describes(&ranged("lines=1-2").await.expect("an answer"), 200, size);
    // A range of another version is useless.
    for (known, status) in [(format!("\"{digest}\""), 206), ("\"other\"".to_owned(), 200)] {
        let request = edge.request(Method::GET, &path).header("range", "bytes=5-").header("if-range", &known);
        assert_eq!(request.send().await.expect("an answer").status(), status, "{known}");
    }
    let known = edge.request(Method::GET, &path).header("if-none-match", format!("\"{digest}\""));
    assert_eq!(known.send().await.expect("an answer").status(), 304);
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn r2_may_lack_a_blob_or_fail() {
    let (edge, _origin) = pair(|settings| settings.with("FIRN_BLOBS", "r2")).await;
    let path = path(&Digest::of(b"none"));
    assert_eq!(refusal(edge.get(&path).await).await, (404, "BLOB_UNKNOWN".to_owned()));
    assert_eq!(edge.head(&path).await.status(), 404);
    for (method, range) in [(Method::GET, ""), (Method::HEAD, ""), (Method::GET, "bytes=1-")] {
        let request = edge.request(method, &path).header("x-test-fault", "r2-get").header("range", range);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 503);
        assert!(!header(&response, "retry-after").is_empty());
    }
}

/// The blob storage accepts connections and sends nothing.
#[tokio::test]
async fn clients_do_not_wait_for_storage_that_hangs() {
    let origin = Origin::start().await;
    let silence = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silence.local_addr().expect("an address"));
    let edge = Edge::start(Settings::new(&origin.url).with("FIRN_BLOBS_URL", &url)).await;
    // containerd's timeout.
    let head = edge.request(Method::HEAD, &path(&Digest::of(b"blob"))).timeout(Duration::from_secs(30));
    let response = head.send().await.expect("an answer");
    assert_eq!(response.status(), 503);
    assert!(!header(&response, "retry-after").is_empty());
}
