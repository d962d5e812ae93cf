//! The Durable Objects that ask the backend, when many clients want one image or the objects fail.

use crate::{header, pair};
use firn_shared::oci::error::OciError;
use firn_tests::edge::{Behaviour, Settings};
use futures::future::join_all;
use reqwest::Method;
use std::time::Duration;

const TAG: &str = "/v2/shell/git/manifests/latest";

/// KV may say for a minute that a new image is not there. Until then, locations that have served it know better, and
/// it is no miss of anybody.
#[tokio::test]
async fn what_was_just_built_is_no_miss() {
    let limits = |settings| Settings { look_ups: Some(1), misses: Some(1), ..settings };
    let (edge, origin) = pair(limits).await;
    let mut sources = Vec::new();
    for _ in 0..30 {
        let request = edge.request(Method::HEAD, TAG).header("x-test-fault", "kv-get");
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        sources.push(header(&response, "x-firn-source").to_owned());
    }
    assert_eq!(sources[0], "backend");
    assert!(sources[1..].iter().all(|source| source == "cache"), "{sources:?}");
    assert_eq!((origin.seen().len(), edge.boarded().await), (1, 1));
}

/// An object answers about a thousand requests a second, from all the world.
#[tokio::test]
async fn an_isolate_asks_an_object_once() {
    let (edge, origin) = pair(|settings| settings).await;
    origin.behave(Behaviour::Slow(Duration::from_millis(1500)));
    let impatient = edge.request(Method::GET, TAG).timeout(Duration::from_millis(500)).send().await;
    assert!(impatient.expect_err("the client gives up").is_timeout());
    for answer in join_all((0..60).map(|_| edge.request(Method::HEAD, TAG).send())).await {
        assert_eq!(answer.expect("an answer").status(), 200);
    }
    assert_eq!((origin.seen().len(), edge.boarded().await), (1, 1));
}

/// Under load, an object that fails must not turn one question into thousands.
#[tokio::test]
async fn the_backend_is_not_asked_in_place_of_an_object() {
    let (edge, origin) = pair(|settings| settings).await;
    for (fault, attempts) in [("flights-overloaded", 1), ("flights-reset", 2)] {
        for (agent, expect) in [("containerd/2.1.0", 429), ("docker/28.2.2", 307)] {
            let before = edge.boarded().await;
            let request = edge.request(Method::GET, TAG).header("x-test-fault", fault);
            let response = request.header("user-agent", agent).send().await.expect("an answer");
            assert_eq!(response.status(), expect, "{fault} {agent}");
            assert_eq!(edge.boarded().await - before, attempts, "{fault}");
            if expect == 429 {
                assert!(!header(&response, "retry-after").is_empty());
                let body = response.bytes().await.expect("a body");
                let error = OciError::from_body(&body).expect("an error");
                assert!(error.is_worth_waiting());
            } else {
                assert_eq!(header(&response, "location"), format!("{TAG}?firn-wait=1"));
            }
        }
    }
    assert!(origin.seen().is_empty());
    assert_eq!(edge.get(TAG).await.status(), 200);
}
