//! The pages of builds, which come from the backend.

use crate::{header, pair, refusal};
use firn_shared::{
    link::authentication::{HEADER, Secret},
    oci::error::{ErrorCode, OciError},
};
use firn_tests::edge::{Behaviour, Edge, Origin, Settings};
use futures::StreamExt;
use reqwest::Method;
use std::time::{SystemTime, UNIX_EPOCH};

#[tokio::test]
async fn pages_are_passed_on() {
    let (edge, origin) = pair(|settings| settings.with("FIRN_SECRET", "s3cret")).await;
    for (accept, content_type) in [("application/json", "application/json"), ("*/*", "text/plain")] {
        let request = edge.request(Method::GET, "/builds/0a1b").header("accept", accept);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "content-type"), content_type);
        assert_eq!(header(&response, "cache-control"), "no-store");
        assert!(response.text().await.expect("a body").contains("building"));
    }
    let seen = origin.seen().pop().expect("a request");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let proof = seen.headers[HEADER].to_str().expect("text");
    assert_eq!(Secret::new("s3cret").verify("GET", "/builds/0a1b", Some(proof), now), Ok(()));
    assert_eq!(refusal(edge.get("/builds/none").await).await, (404, "MANIFEST_UNKNOWN".to_owned()));
    let asked = origin.seen().len();
    for nonsense in ["", "a/b", "a%00", "..%2fmetrics", &"a".repeat(200)] {
        let response = edge.get(&format!("/builds/{nonsense}")).await;
        assert_eq!(response.status(), 404, "{nonsense}");
    }
    assert_eq!(origin.seen().len(), asked);
    assert_eq!(edge.head("/builds/0a1b").await.status(), 200);
}

/// The backend sends the second event when it is told that the first has arrived.
#[tokio::test]
async fn events_are_passed_on_as_they_come() {
    let (edge, origin) = pair(|settings| settings).await;
    let request = edge.request(Method::GET, "/builds/0a1b").header("accept", "text/event-stream");
    let response = request.send().await.expect("an answer");
    assert_eq!(header(&response, "content-type"), "text/event-stream");
    let mut events = response.bytes_stream();
    let mut next = async || {
        let chunk = events.next().await?.expect("an event");
        Some(String::from_utf8(chunk.to_vec()).expect("text"))
    };
    assert_eq!(next().await.as_deref(), Some("data: 1\n\n"));
    origin.continue_events();
    assert_eq!(next().await.as_deref(), Some("data: 2\n\n"));
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn the_backend_that_builds_is_found() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let edge = Edge::start(Settings::new(&format!("{} {}", one.url, two.url))).await;
    for (knows, other) in [(&one, &two), (&two, &one)] {
        knows.behave(Behaviour::Good);
        other.behave(Behaviour::Refuse(OciError::new(ErrorCode::ManifestUnknown, "no such build")));
        assert_eq!(edge.get("/builds/0a1b").await.status(), 200);
    }
    one.behave(Behaviour::Refuse(OciError::new(ErrorCode::ManifestUnknown, "no such build")));
    two.behave(Behaviour::Refuse(OciError::new(ErrorCode::ManifestUnknown, "no such build")));
    assert_eq!(refusal(edge.get("/builds/0a1b").await).await, (404, "MANIFEST_UNKNOWN".to_owned()));
    // The backend that cannot be reached may have it.
    one.stop();
    assert_eq!(refusal(edge.get("/builds/0a1b").await).await, (503, "UNAVAILABLE".to_owned()));
}

#[tokio::test]
async fn messages_name_an_address_that_people_can_reach() {
    let (edge, origin) = pair(|settings| settings).await;
    let message = "git is being built: 1 of 2. Pull again to wait for it, or look at /builds/0a1b";
    let building = OciError::new(ErrorCode::Toomanyrequests, message).of_build("0a1b").retry_after(5);
    origin.behave(Behaviour::Refuse(building));
    let response = edge.get("/v2/git/manifests/latest").await;
    assert_eq!(response.status(), 429);
    let error = OciError::from_body(&response.bytes().await.expect("a body")).expect("an error");
    let address = format!("{}/builds/0a1b", edge.url);
    assert!(error.message.ends_with(&format!("look at {address}")), "{}", error.message);
    assert!(error.is_of_running_build());
    // Docker's daemon gives up at a 429, but follows redirects.
    for (agent, query, expect) in [
        ("docker/20.10.24 go/go1.19", "", Some("?firn-wait=1")),
        ("docker/20.10.24 go/go1.19", "?firn-wait=8", Some("?firn-wait=9")),
        ("docker/20.10.24 go/go1.19", "?firn-wait=9", None),
        ("containerd/1.6.20", "", None),
    ] {
        let path = "/v2/git/manifests/latest";
        let request = edge.request(Method::GET, &format!("{path}{query}")).header("user-agent", agent);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), if expect.is_some() { 307 } else { 429 }, "{agent} {query}");
        assert_eq!(header(&response, "location"), expect.map_or(String::new(), |q| format!("{path}{q}")));
    }
    // The message does not decide.
    origin.behave(Behaviour::Refuse(OciError::new(ErrorCode::Toomanyrequests, message)));
    let request = edge.request(Method::GET, "/v2/git/manifests/latest").header("user-agent", "docker/28.2.2");
    assert_eq!(request.send().await.expect("an answer").status(), 429);
    // An id that is mentioned in another way is not an address.
    origin.behave(Behaviour::Refuse(OciError::new(ErrorCode::NameUnknown, "no a/builds/b")));
    let body = edge.get("/v2/a/builds/b/manifests/latest").await.text().await.expect("a body");
    assert!(body.contains("no a/builds/b"), "{body}");
}
