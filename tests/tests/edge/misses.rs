//! What the edge asks the backend, how often, and what it does without a good answer.

use crate::{header, pair, put_image, refusal, until_limited};
use firn_shared::{
    link::{
        authentication::{HEADER, Secret},
        protocol::CLIENT,
    },
    oci::{
        digest::Digest,
        error::{ErrorCode, OciError},
    },
};
use firn_tests::{
    edge::{Behaviour, Edge, Origin, Settings},
    wait::{LONG, eventually},
};
use futures::future::join_all;
use reqwest::Method;
use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TAG: &str = "/v2/shell/git/manifests/latest";

#[tokio::test]
async fn headers_of_clients_are_not_forwarded_and_requests_are_signed() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_SECRET", "s3cret")).await;
    let unwanted = [
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-host", "evil.example"),
        ("te", "trailers"),
        ("proxy-authorization", "Basic x"),
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        (HEADER, "0:00"),
        (CLIENT, "1.2.3.4"),
    ];
    let request = edge.request(Method::GET, "/v2/htop/git/manifests/latest?ns=docker.io");
    let request = unwanted.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    let request = request.header("cf-connecting-ip", "203.0.113.7");
    let response =
        request.header("accept", "a/b").header("accept", "*/*;q=0.1").send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let seen = origin.seen().pop().expect("a request");
    assert_eq!((seen.method.as_str(), seen.uri.as_str()), ("GET", "/v2/git/htop/manifests/latest"));
    // Others may wait for the same answer, so it is asked for by its format.
    assert_eq!(seen.headers["accept"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(seen.headers[CLIENT], "203.0.113.7", "the client on whose behalf the backend is asked");
    for (name, value) in unwanted {
        assert!(seen.headers.get(name).is_none_or(|sent| sent != value), "{name}: {:?}", seen.headers);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let proof = seen.headers[HEADER].to_str().expect("text");
    assert_eq!(Secret::new("s3cret").verify("GET", &seen.uri, Some(proof), now), Ok(()));
}

#[tokio::test]
async fn concurrent_clients_share_one_request() {
    let (edge, origin) = pair(|settings| settings).await;
    origin.behave(Behaviour::Slow(Duration::from_millis(1500)));
    // The isolate has just started, and HEAD joins GET.
    let answers = join_all((0..60).map(|i| {
        let method = if i % 3 == 0 { Method::HEAD } else { Method::GET };
        edge.request(method, TAG).send()
    }))
    .await;
    for answer in answers {
        assert_eq!(answer.expect("an answer").status(), 200);
    }
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_the_others() {
    let (edge, origin) = pair(|settings| settings).await;
    origin.behave(Behaviour::Slow(Duration::from_millis(1500)));
    let impatient = edge.request(Method::GET, TAG).timeout(Duration::from_millis(700)).send().await;
    assert!(impatient.expect_err("the client gives up").is_timeout());
    assert_eq!(edge.get(TAG).await.status(), 200);
    assert_eq!(origin.seen().len(), 1, "the second joined the first's question");
}

#[tokio::test]
async fn works_without_durable_objects_and_without_kv() {
    let (edge, origin) =
        pair(|settings| Settings { flights: false, tags: false, ..settings.forgetful() }).await;
    assert_eq!(edge.get(TAG).await.status(), 200);
    edge.await_keys(3).await;
    assert_eq!(header(&edge.get(TAG).await, "x-firn-source"), "kv");
    assert_eq!(origin.seen().len(), 1);
    let (edge, _origin) =
        pair(|settings| Settings { flights: false, tags: false, kv: false, ..settings.forgetful() }).await;
    assert_eq!(header(&edge.get(TAG).await, "x-firn-source"), "backend");
}

#[tokio::test]
async fn the_backends_refusals_are_passed_on() {
    let (edge, origin) = pair(|settings| settings).await;
    for (code, status, retry_after) in [
        (ErrorCode::NameUnknown, 404, None),
        (ErrorCode::ManifestUnknown, 404, None),
        (ErrorCode::NameInvalid, 400, None),
        (ErrorCode::Toomanyrequests, 429, Some(7)),
        (ErrorCode::Unavailable, 503, Some(9)),
    ] {
        let mut error = OciError::new(code, "there is no gti");
        error.retry_after_seconds = retry_after;
        origin.behave(Behaviour::Refuse(error.clone()));
        let response = edge.get(TAG).await;
        assert_eq!(response.status(), status);
        assert_eq!(header(&response, "retry-after"), retry_after.map_or(String::new(), |s| s.to_string()));
        assert_eq!(response.bytes().await.expect("a body"), error.body());
        assert_eq!(edge.head(TAG).await.status(), status);
    }
    // No error is cached as an image.
    assert!(edge.keys().await.is_empty());
    origin.behave(Behaviour::Good);
    assert_eq!(edge.get(TAG).await.status(), 200);
    // That the secrets differ is not the client's fault. The client is not asked to log in.
    origin.behave(Behaviour::Refuse(OciError::new(ErrorCode::Denied, "another secret")));
    assert_eq!(refusal(edge.get("/v2/jq/manifests/latest").await).await, (503, "UNAVAILABLE".to_owned()));
}

#[tokio::test]
async fn another_backend_takes_over() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let edge = Edge::start(Settings::new(&format!("{} {}", one.url, two.url))).await;
    one.stop();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let response = edge.get(&format!("/v2/{name}/manifests/latest")).await;
        assert_eq!((response.status().as_u16(), header(&response, "x-firn-source")), (200, "backend"));
    }
    assert_eq!(two.seen().len(), 6);
    edge.await_keys(13).await;
    two.stop();
    let response = edge.get("/v2/g/manifests/latest").await;
    assert!(!header(&response, "retry-after").is_empty());
    assert_eq!(refusal(response).await, (503, "UNAVAILABLE".to_owned()));
    assert_eq!(edge.get("/v2/a/manifests/latest").await.status(), 200);
}

#[tokio::test]
async fn backends_share_the_work() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let edge = Edge::start(Settings::new(&format!("{},{}", one.url, two.url))).await;
    for i in 0..16 {
        assert_eq!(edge.get(&format!("/v2/a{i}/manifests/latest")).await.status(), 200);
    }
    let counts = (one.seen().len(), two.seen().len());
    assert_eq!(counts.0 + counts.1, 16);
    assert!(counts.0 > 2 && counts.1 > 2, "{counts:?}");
}

#[tokio::test]
async fn misses_are_limited_and_hits_are_not() {
    let (edge, origin) = pair(|settings| Settings { misses: Some(3), ..settings }).await;
    let asked = origin.seen().len();
    let (response, answered) = until_limited(3, async |i| {
        let response = edge.get(&format!("/v2/a{i}/manifests/latest")).await;
        assert!([200, 429].contains(&response.status().as_u16()));
        response
    })
    .await;
    assert_eq!(header(&response, "retry-after"), "10");
    assert_eq!(refusal(response).await, (429, "TOOMANYREQUESTS".to_owned()));
    assert_eq!(origin.seen().len() - asked, answered);
    edge.await_keys(1 + 2 * answered).await;
    for _ in 0..10 {
        assert_eq!(edge.get("/v2/a0/manifests/latest").await.status(), 200);
    }
}

/// Many machines behind one address request the same new image.
#[tokio::test]
async fn joining_what_others_ask_for_is_no_miss() {
    let (edge, origin) = pair(|settings| Settings { misses: Some(1), ..settings.forgetful() }).await;
    origin.behave(Behaviour::Slow(Duration::from_millis(1500)));
    for (name, expect) in [("a", 200), ("b", 429)] {
        let path = format!("/v2/{name}/manifests/latest");
        let answers = join_all((0..60).map(|_| edge.request(Method::HEAD, &path).send())).await;
        let statuses: Vec<u16> =
            answers.into_iter().map(|answer| answer.expect("an answer").status().as_u16()).collect();
        // A minute of the clock, and the limit with it, may end meanwhile.
        assert!(
            statuses.iter().all(|status| *status == expect || (name, *status) == ("b", 200)),
            "{statuses:?}"
        );
    }
    let asked = origin.seen().iter().filter(|seen| seen.uri.starts_with("/v2/a/")).count();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn limits_count_ipv6_networks_as_one_client() {
    let (edge, _origin) = pair(|settings| Settings { misses: Some(3), ..settings }).await;
    let ask = async |name: &str, address: &str| {
        let request = edge.request(Method::GET, &format!("/v2/{name}/manifests/latest"));
        request.header("cf-connecting-ip", address).send().await.expect("an answer")
    };
    until_limited(3, async |i| ask(&format!("a{i}"), &format!("2001:db8:0:1:{i:x}::1")).await).await;
    for other in ["2001:db8:0:2::1", "203.0.113.7"] {
        assert_eq!(ask("b", other).await.status(), 200, "{other}");
    }
}

/// Clients that verify signatures request these at each pull.
#[tokio::test]
async fn tags_of_signatures_do_not_reach_the_backend() {
    let limits = |settings| Settings { look_ups: Some(1), misses: Some(1), ..settings };
    let (edge, origin) = pair(limits).await;
    let digest = Digest::of(b"a manifest").hex();
    for ending in [".sig", ".att", ".sbom", ".sig", ".sig"] {
        let response = edge.get(&format!("/v2/shell/git/manifests/sha256-{digest}{ending}")).await;
        assert_eq!(refusal(response).await, (404, "MANIFEST_UNKNOWN".to_owned()), "{ending}");
    }
    assert!(origin.seen().is_empty());
    assert_eq!(edge.get(TAG).await.status(), 200, "nothing has been counted");
}

/// A request for a list of tags asks the backend.
#[tokio::test]
async fn lists_of_tags_are_limited() {
    let (edge, origin) = pair(|settings| Settings { look_ups: Some(2), ..settings }).await;
    let (refused, answered) = until_limited(2, async |_| {
        let response = edge.get("/v2/shell/git/tags/list").await;
        assert!([200, 429].contains(&response.status().as_u16()));
        response
    })
    .await;
    assert_eq!(refusal(refused).await, (429, "TOOMANYREQUESTS".to_owned()));
    assert_eq!(origin.seen().len(), answered);
}

/// An edge whose KV has an outdated image.
async fn with_old_image(settings: impl FnOnce(Settings) -> Settings) -> (Edge, Origin) {
    let (edge, origin) = pair(|base| settings(base.forgetful())).await;
    put_image(&edge, "shell/git").await;
    (edge, origin)
}

/// The old image is served while it cannot be found out what its tag names.
#[tokio::test]
async fn an_old_image_is_better_than_being_put_off() {
    let refusal = |message| OciError::new(ErrorCode::Toomanyrequests, message);
    for behaviour in [
        Behaviour::Refuse(refusal("too many builds are waiting")),
        Behaviour::Refuse(OciError::new(ErrorCode::Unavailable, "the repository cannot be reached")),
        Behaviour::Slow(LONG),
        Behaviour::Garbage(502),
    ] {
        let (edge, origin) = with_old_image(|settings| settings).await;
        origin.behave(behaviour.clone());
        let response = edge.get(TAG).await;
        let source = header(&response, "x-firn-source");
        assert_eq!((response.status().as_u16(), source), (200, "kv"), "{behaviour:?}");
        assert_eq!(origin.checked(), ["latest"], "{behaviour:?}");
    }
    // Try again if the clock's minute, and the limit with it, has ended meanwhile.
    eventually("the limit is reached", async || {
        let (edge, _origin) = with_old_image(|settings| Settings { look_ups: Some(1), ..settings }).await;
        until_limited(1, async |_| edge.get("/builds/0a1b").await).await;
        (header(&edge.get(TAG).await, "x-firn-source") == "kv").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_slow_backend_gives_429_before_containerd_gives_up() {
    let (edge, origin) = pair(|settings| settings).await;
    origin.behave(Behaviour::Slow(LONG));
    // The timeout is a constant. It is compared with containerd's where it is defined.
    let response = edge.get(TAG).await;
    assert!(!header(&response, "retry-after").is_empty());
    assert_eq!(refusal(response).await, (429, "TOOMANYREQUESTS".to_owned()));
}

/// No other request to a backend takes longer. This backend accepts connections and sends nothing.
#[tokio::test]
async fn no_request_waits_longer_for_a_silent_backend() {
    let silence = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silence.local_addr().expect("an address"));
    let edge = Edge::start(Settings::new(&url)).await;
    let alone = Edge::start(Settings { flights: false, ..Settings::new(&url) }).await;
    let by_digest = format!("/v2/shell/git/manifests/{}", Digest::of(b"none"));
    let asked = [(&edge, "/v2/git/tags/list"), (&edge, "/builds/0a1b"), (&edge, &by_digest), (&alone, TAG)];
    let answers = asked.map(|(edge, path)| {
        let request = edge.request(Method::GET, path).timeout(LONG);
        async move { (path, request.send().await.map(|response| response.status().as_u16())) }
    });
    for (path, answer) in join_all(answers).await {
        assert_eq!(answer.expect("an answer"), 429, "{path}");
    }
}

#[tokio::test]
async fn says_what_is_not_configured() {
    let origin = Origin::start().await;
    let edge = Edge::start(Settings::new(&origin.url).with("FIRN_BLOBS", "elsewhere")).await;
    let response = edge.get(TAG).await;
    assert_eq!(response.status(), 500);
    assert!(response.text().await.expect("a body").contains("FIRN_BLOBS is none of"));
}

/// Cloudflare refuses requests to IP addresses, so no image would ever be made.
#[tokio::test]
async fn backends_need_names() {
    for (url, is_refused) in [("http://192.0.2.1:8080", true), ("http://127.0.0.1:1", false)] {
        let response = Edge::start(Settings::new(url)).await.get("/v2/").await;
        let (status, body) = (response.status(), response.text().await.expect("a body"));
        assert_eq!(
            (status == 500, body.contains("is an IP address")),
            (is_refused, is_refused),
            "{url}: {body}"
        );
    }
}
