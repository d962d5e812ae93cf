//! A private deployment: which clients may pull, and what.

use crate::{header, pair, put_image, refusal, until_limited};
use firn_shared::oci::{
    digest::Digest,
    document::Document,
    media_type::{OCI_INDEX, OCI_MANIFEST},
};
use firn_tests::{
    backend::Backend,
    edge::{Behaviour, Edge, Origin, Settings},
    package_set,
};
use futures::future::join_all;
use reqwest::{Method, Response};
use std::net::TcpListener;

const TAG: &str = "/v2/shell/git/manifests/latest";

pub(crate) fn private(settings: Settings) -> Settings {
    settings
        .with("FIRN_ACCESS", "private")
        .with("FIRN_USERS", "ann:secret bob:word")
        .with("FIRN_SECRET", "s3cret")
}

async fn request(edge: &Edge, method: Method, path: &str, fault: &str) -> Response {
    let request = edge.request(method, path).basic_auth("ann", Some("secret"));
    request.header("x-test-fault", fault).send().await.expect("an answer")
}

async fn get(edge: &Edge, path: &str) -> Response {
    request(edge, Method::GET, path, "").await
}

#[tokio::test]
async fn who_is_not_listed_is_asked_to_log_in() {
    let (edge, origin) = pair(private).await;
    for path in ["/v2/", TAG, "/v2/shell/git/tags/list", "/builds/0a", "/v2/shell/git/blobs/nonsense"] {
        for credentials in [None, Some(("ann", "word")), Some(("eve", "secret")), Some(("", ""))] {
            let mut request = edge.request(Method::GET, path);
            if let Some((name, password)) = credentials {
                request = request.basic_auth(name, Some(password));
            }
            let response = request.send().await.expect("an answer");
            assert_eq!(header(&response, "www-authenticate"), r#"Basic realm="firn", charset="UTF-8""#);
            assert_eq!(refusal(response).await, (401, "UNAUTHORIZED".to_owned()), "{path} {credentials:?}");
        }
    }
    assert!(origin.seen().is_empty());
    assert_eq!(edge.get("/healthz").await.status(), 200);
    let bob = edge.request(Method::GET, TAG).basic_auth("bob", Some("word"));
    assert_eq!(bob.send().await.expect("an answer").status(), 200);
    assert_eq!(get(&edge, "/v2/").await.status(), 200);
    // The edge does not pass a client's credentials to the backend.
    assert!(origin.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[tokio::test]
async fn guesses_are_limited() {
    let (edge, _origin) = pair(|settings| Settings { misses: Some(3), ..private(settings) }).await;
    let guess = || edge.request(Method::GET, "/v2/").basic_auth("ann", Some("guess")).send();
    until_limited(3, async |_| {
        let response = guess().await.expect("an answer");
        assert!([401, 429].contains(&response.status().as_u16()));
        response
    })
    .await;
    assert_eq!(get(&edge, "/v2/").await.status(), 200);
    assert_eq!(edge.get("/v2/").await.status(), 401);
}

#[tokio::test]
async fn only_what_belongs_to_an_image_of_the_name_is_served() {
    let (edge, _origin) = pair(private).await;
    let config = Digest::of(b"config");
    let path = |name: &str| format!("/v2/{name}/blobs/{config}");
    assert_eq!(refusal(get(&edge, &path("git/htop")).await).await, (404, "BLOB_UNKNOWN".to_owned()));
    let manifest = get(&edge, "/v2/git/htop/manifests/latest").await;
    let digest = header(&manifest, "docker-content-digest").to_owned();
    // Under every spelling of the name, and under no other.
    for name in ["git/htop", "htop/git"] {
        let response = get(&edge, &path(name)).await;
        assert_eq!(response.status(), 307, "{name}");
        assert!(header(&response, "cache-control").starts_with("private"));
        assert_eq!(get(&edge, &format!("/v2/{name}/manifests/{digest}")).await.status(), 200, "{name}");
    }
    assert_eq!(refusal(get(&edge, &path("shell/git/htop")).await).await, (404, "BLOB_UNKNOWN".to_owned()));
    assert_eq!(request(&edge, Method::HEAD, &path("shell/git/htop"), "").await.status(), 404);
    let elsewhere = get(&edge, &format!("/v2/shell/git/htop/manifests/{digest}")).await;
    assert_eq!(refusal(elsewhere).await, (404, "MANIFEST_UNKNOWN".to_owned()));
    let other = format!("/v2/git/htop/blobs/{}", Digest::of(b"blob"));
    assert_eq!(refusal(get(&edge, &other).await).await, (404, "BLOB_UNKNOWN".to_owned()));
}

/// An index leads to manifests, and those to blobs. All of it is of the name, and nothing else is.
#[tokio::test]
async fn what_an_index_leads_to_belongs_to_its_name() {
    let (edge, origin) = pair(private).await;
    origin.behave(Behaviour::Index);
    let manifest = |name: &str, digest: &Digest| format!("/v2/{name}/manifests/{digest}");
    let blob = |name: &str, number| format!("/v2/{name}/blobs/{}", Origin::listed_config(number));
    let answer = get(&edge, TAG).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "content-type")), (200, OCI_INDEX));
    let index = Document::parse(&answer.bytes().await.expect("a body")).expect("an index");
    let listed: Vec<Digest> = index.children().map(|child| child.descriptor.digest).collect();
    assert_eq!(listed.len(), Origin::LISTED);
    // The first one is remembered from the index; for the others, the Durable Object has to be asked.
    for number in [0, 1, Origin::LISTED - 1] {
        let early = refusal(get(&edge, &blob("shell/git", number)).await).await;
        assert_eq!(early, (404, "BLOB_UNKNOWN".to_owned()), "nobody has asked for its manifest");
        let elsewhere = refusal(get(&edge, &manifest("git/htop", &listed[number])).await).await;
        assert_eq!(elsewhere, (404, "MANIFEST_UNKNOWN".to_owned()));
        let answer = get(&edge, &manifest("shell/git", &listed[number])).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "content-type")), (200, OCI_MANIFEST));
        assert_eq!(get(&edge, &blob("shell/git", number)).await.status(), 307);
        let elsewhere = refusal(get(&edge, &blob("git/htop", number)).await).await;
        assert_eq!(elsewhere, (404, "BLOB_UNKNOWN".to_owned()));
    }
    // A manifest that is of the name but cannot be noted is not given out: its blobs could not be had.
    let unnoted = request(&edge, Method::GET, &manifest("shell/git", &listed[2]), "repository").await;
    assert_eq!(refusal(unnoted).await, (503, "UNAVAILABLE".to_owned()));
}

#[tokio::test]
async fn what_cannot_be_told_is_not_served() {
    let (edge, _origin) = pair(private).await;
    let blob = format!("/v2/shell/git/blobs/{}", Digest::of(b"config"));
    for path in [TAG, &blob] {
        let response = request(&edge, Method::GET, path, "repository").await;
        assert!(!header(&response, "retry-after").is_empty());
        assert_eq!(refusal(response).await, (503, "UNAVAILABLE".to_owned()), "{path}");
    }
    let hanging = request(&edge, Method::GET, &blob, "objects-hang").await;
    assert_eq!(refusal(hanging).await, (503, "UNAVAILABLE".to_owned()));
    assert_eq!(get(&edge, TAG).await.status(), 200);
    let (edge, _origin) = pair(|settings| Settings { repositories: false, ..private(settings) }).await;
    assert_eq!(refusal(get(&edge, TAG).await).await, (500, "INTERNAL".to_owned()));
}

/// Clients in Go send the password to where they are redirected, if that is a subdomain.
#[tokio::test]
async fn the_password_is_not_sent_to_a_subdomain() {
    let origin = Origin::start().await;
    for (blobs, expect) in [
        ("https://backend.firn.example", 500),
        ("https://firn.example:8443", 500),
        ("https://backend.example", 200),
    ] {
        let edge = Edge::start(private(Settings::new(&origin.url)).with("FIRN_BLOBS_URL", blobs)).await;
        let request = edge.request(Method::GET, TAG).basic_auth("ann", Some("secret"));
        let response = request.header("host", "firn.example").send().await.expect("an answer");
        assert_eq!(response.status(), expect, "{blobs}");
        let body = response.text().await.expect("a body");
        assert_eq!(body.contains("FIRN_BLOBS_URL"), expect == 500, "{body}");
        assert_eq!(get(&edge, TAG).await.status(), 200, "on one machine, everything has the same name");
    }
}

/// A private edge whose backend answers all clients is not private.
#[tokio::test]
async fn a_backend_without_a_secret_is_noticed() {
    let open = Backend::serving_expression(&package_set::small("open")).start();
    let edge = Edge::start(private(Settings::new(&format!("http://{}", open.address())))).await;
    for path in ["/v2/greeting/manifests/latest", "/v2/"] {
        let response = get(&edge, path).await;
        assert!(!header(&response, "retry-after").is_empty());
        assert_eq!(response.status(), 503);
        let body = response.text().await.expect("a body");
        assert!(body.contains("FIRN_SECRET") && body.contains("UNAVAILABLE"), "{body}");
    }
    assert_eq!(edge.get("/v2/").await.status(), 401);
    assert_eq!(edge.get("/healthz").await.status(), 200);
    let origin = Origin::start().await;
    origin.open();
    let edge = Edge::start(private(Settings::new(&origin.url))).await;
    put_image(&edge, "shell/git").await;
    for _ in 0..3 {
        assert_eq!(get(&edge, TAG).await.status(), 503, "not even what is in the cache");
    }
    assert_eq!((origin.probed(), origin.seen().len()), (1, 0));
}

#[tokio::test]
async fn a_backend_is_probed_once() {
    let (edge, origin) = pair(private).await;
    assert_eq!(edge.get(TAG).await.status(), 401);
    assert_eq!(origin.probed(), 0, "strangers cause nothing");
    for response in join_all((0..20).map(|_| get(&edge, TAG))).await {
        assert_eq!(response.status(), 200);
    }
    assert_eq!(origin.probed(), 1);
    let origin = Origin::start().await;
    let edge = Edge::start(Settings::new(&origin.url)).await;
    assert_eq!(edge.get(TAG).await.status(), 200);
    assert_eq!(origin.probed(), 0, "a public edge has nothing to hide");
}

/// If a backend cannot be reached, cached images are still served.
#[tokio::test]
async fn a_backend_that_is_gone_takes_nothing_down() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let gone = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("an address"));
    let urls = [url(&silent), url(&gone)];
    drop(gone);
    for url in urls {
        let edge = Edge::start(private(Settings::new(&url))).await;
        put_image(&edge, "shell/git").await;
        for _ in 0..2 {
            let response = get(&edge, TAG).await;
            assert_eq!(response.status(), 200, "{url}");
        }
    }
}

#[tokio::test]
async fn a_public_deployment_asks_nobody() {
    let origin = Origin::start().await;
    let edge = Edge::start(Settings { repositories: false, ..Settings::new(&origin.url) }).await;
    assert_eq!(get(&edge, TAG).await.status(), 200);
    assert_eq!(edge.get(&format!("/v2/other/blobs/{}", Digest::of(b"blob"))).await.status(), 307);
}
