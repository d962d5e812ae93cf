//! What operators see of requests: lines in the log, and points in Analytics Engine.

use crate::{header, pair};
use firn_tests::{
    edge::{Edge, Settings, records::Records},
    wait::{LONG, until},
};
use reqwest::Method;
use serde_json::{Value, json};

/// A request, the status of its answer, and what is reported about it.
struct Case(&'static str, &'static str, u16, Said);

/// Outcome, source if any, and what was requested.
type Said = (&'static str, Option<&'static str>, &'static str);

const CASES: [Case; 6] = [
    Case("GET", "/v2/", 200, ("other", None, "other")),
    Case("GET", "/v2/git/jq/manifests/latest", 200, ("composed", Some("composed"), "manifests")),
    Case("GET", "/v2/nano/manifests/latest", 200, ("miss", Some("backend"), "manifests")),
    Case("HEAD", "/v2/nano/manifests/latest", 200, ("hit", Some("kv"), "manifests")),
    Case("GET", "/v2/nano/manifests/-x", 404, ("error", None, "manifests")),
    Case("GET", "/v2/NaNo/tags/list", 400, ("error", None, "tags")),
];

/// Secrets that must never be reported. Every request contains them.
const SECRETS: [(&str, &str); 3] = [
    ("authorization", "Basic c2VjcmV0"),
    ("cookie", "session=c2VjcmV0"),
    ("cf-connecting-ip", "203.0.113.7"),
];

/// An edge to which all requests were sent, one after the other.
async fn asked(log: &str) -> Edge {
    let (edge, _origin) =
        pair(|settings| settings.forgetful().with("FIRN_BLOBS", "r2").with("FIRN_LOG", log)).await;
    Records::new().put_into_kv(&edge).await;
    for Case(method, path, status, (outcome, ..)) in CASES {
        let request = edge.request(Method::from_bytes(method.as_bytes()).expect("a method"), path);
        let request = SECRETS.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let response = request.query(&[("token", "c2VjcmV0")]).send().await.expect("an answer");
        assert_eq!(response.status(), status, "{path}");
        if matches!(outcome, "miss" | "composed") {
            // The manifest is written after the answer.
            edge.await_manifest(header(&response, "docker-content-digest")).await;
        }
    }
    edge
}

/// The lines about requests, once there are this many.
fn lines(edge: &Edge, count: usize) -> Vec<Value> {
    until("requests are logged", LONG, || {
        let log = edge.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
        let lines: Vec<_> = lines.filter(|line| line["message"] == "request").collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[tokio::test]
async fn every_request_is_told_and_counted() {
    let edge = asked("all").await;
    let lines = lines(&edge, CASES.len());
    let points = edge.points().await;
    let points = points.as_array().expect("a list");
    assert_eq!((lines.len(), points.len()), (CASES.len(), CASES.len()), "{lines:?} {points:?}");
    for (case, (line, point)) in CASES.into_iter().zip(lines.iter().zip(points)) {
        let Case(method, path, status, (outcome, source, kind)) = case;
        let said = json!({
            "message": "request", "method": method, "path": path, "status": status, "outcome": outcome,
            "source": source, "duration_ms": line["duration_ms"],
        });
        assert_eq!(*line, said);
        assert!(line["duration_ms"].is_u64(), "{line}");
        assert_eq!(point["indexes"], json!([outcome]), "{path}");
        assert_eq!(point["blobs"], json!([outcome, kind, source.unwrap_or_default()]), "{path}");
        assert_eq!(point["doubles"][1].as_f64(), Some(f64::from(status)), "{path}");
    }
    let told = edge.log() + &Value::from(points.clone()).to_string();
    for secret in ["c2VjcmV0", "203.0.113.7"] {
        assert!(!told.contains(secret), "{told}");
    }
}

#[tokio::test]
async fn hits_need_not_be_told() {
    let edge = asked("misses").await;
    let outcomes: Vec<_> =
        lines(&edge, 4).into_iter().map(|line| line["outcome"].as_str().map(str::to_owned)).collect();
    assert_eq!(outcomes, ["composed", "miss", "error", "error"].map(|outcome| Some(outcome.to_owned())));
    assert_eq!(edge.points().await.as_array().map(Vec::len), Some(CASES.len()), "they are counted");
}

/// Analytics Engine is opt-in.
#[tokio::test]
async fn nothing_needs_to_count() {
    let (edge, _origin) = pair(|settings| Settings { points: false, ..settings }).await;
    assert_eq!(edge.get("/v2/git/manifests/latest").await.status(), 200);
    assert_eq!(edge.get("/v2/").await.status(), 200);
}
