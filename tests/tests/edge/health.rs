//! `/healthz`: whether the Worker runs, and with `?deep` whether what it depends on answers.

use crate::{access::private, pair, until_limited};
use firn_shared::{
    link::authentication::AuthenticationError,
    oci::error::{ErrorCode, OciError},
};
use firn_tests::{
    backend::Backend,
    edge::{Edge, Settings},
    package_set,
};
use reqwest::Method;
use serde_json::{Value, json};

/// The status and the report of a deep look.
async fn look(edge: &Edge, fault: &str) -> (u16, Value) {
    let request = edge.request(Method::GET, "/healthz?deep").header("x-test-fault", fault);
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

#[tokio::test]
async fn says_that_everything_answers() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_SECRET", "s3cret")).await;
    let report = json!({ "status": "ok", "backends": ["ok"], "kv": "ok", "bucket": "ok" });
    assert_eq!(look(&edge, "").await, (200, report));
    assert!(origin.seen().is_empty(), "no image was asked for");
}

#[tokio::test]
async fn says_what_does_not_answer() {
    let check = async |fault: &str, part: &str| {
        let (edge, _origin) = pair(|settings| settings.with("FIRN_SECRET", "s3cret")).await;
        let (status, report) = look(&edge, fault).await;
        assert_eq!(
            (status, &report["status"], &report[part]),
            (503, &json!("failing"), &json!("cannot be read"))
        );
    };
    check("kv-get", "kv").await;
    check("r2-get", "bucket").await;
    let (edge, origin) = pair(|settings| settings.with("FIRN_SECRET", "s3cret")).await;
    origin.stop();
    let (status, report) = look(&edge, "").await;
    assert_eq!((status, &report["backends"]), (503, &json!(["cannot be reached"])));
}

/// The real backend says whether it is the secret. Something in front of it would refuse for other reasons.
#[tokio::test]
async fn says_whether_edge_and_backend_have_the_same_secret() {
    let backend =
        Backend::serving_expression(&package_set::small("closed")).env("FIRN_SECRET", "s3cret").start();
    let url = format!("http://{}", backend.address());
    for (secret, status, backends) in [
        ("s3cret", 200, "ok".to_owned()),
        (
            "other",
            503,
            format!("{}: do edge and backend have the same secret?", AuthenticationError::Mismatch),
        ),
    ] {
        let edge = Edge::start(Settings::new(&url).with("FIRN_SECRET", secret)).await;
        let (is, report) = look(&edge, "").await;
        assert_eq!((is, &report["backends"]), (status, &json!([backends])));
    }
}

#[tokio::test]
async fn warns_of_redirects_that_some_clients_refuse() {
    let settings = |settings: Settings| {
        settings.with("FIRN_SECRET", "s3cret").with("FIRN_BLOBS_URL", "http://192.0.2.1:8080")
    };
    let (edge, _origin) = pair(settings).await;
    let (status, report) = look(&edge, "").await;
    assert_eq!(status, 200);
    assert!(report["warning"].as_str().expect("a sentence").contains("FIRN_BLOBS_URL is an IP address"));
    assert!(edge.log().contains("FIRN_BLOBS_URL is an IP address"), "{}", edge.log());
}

/// Strangers cannot make it cost money.
#[tokio::test]
async fn a_deep_look_is_repeated_and_limited() {
    let (edge, _origin) = pair(|settings| settings.with("FIRN_SECRET", "s3cret")).await;
    let before = edge.reads().await;
    for _ in 0..5 {
        assert_eq!(look(&edge, "").await.0, 200);
    }
    let after = edge.reads().await;
    assert_eq!((after.kv - before.kv, after.r2 - before.r2), (1, 1));

    // Each look is a new one when the isolate has forgotten the last.
    let limited = |settings: Settings| Settings { misses: Some(2), ..settings.with("FIRN_SECRET", "s3cret") };
    let (edge, _origin) = pair(limited).await;
    until_limited(2, async |_| {
        edge.advance(std::time::Duration::from_secs(11)).await;
        edge.get("/healthz?deep").await
    })
    .await;
}

#[tokio::test]
async fn a_private_edge_tells_nobody_else() {
    let (edge, _origin) = pair(private).await;
    assert_eq!(edge.get("/healthz").await.status(), 200);
    let response = edge.get("/healthz?deep").await;
    let refused = OciError::from_body(&response.bytes().await.expect("a body")).expect("an error");
    assert_eq!(refused.code, ErrorCode::Unauthorized);
    let known = edge.request(Method::GET, "/healthz?deep").basic_auth("ann", Some("secret"));
    assert_eq!(known.send().await.expect("an answer").status(), 200);
}
