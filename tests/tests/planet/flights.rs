//! One new image that many clients ask for.

use firn_shared::oci::error::OciError;
use firn_tests::edge::{
    Origin,
    planet::{Planet, Settings},
};
use futures::future::join_all;
use reqwest::Method;
use std::time::Duration;

const TAG: &str = "/v2/shell/git/manifests/latest";

/// KV says for a minute or two that a new image is not there. The location knows better, and a request for the image is
/// no miss and no look-up of anybody.
#[tokio::test]
async fn what_was_just_built_is_no_miss() {
    let origin = Origin::start().await;
    let settings = Settings::new(&origin.named()).limit("MISSES", 1).limit("LOOKUPS", 1);
    let planet = Planet::start(settings).await;
    assert_eq!(planet.at("lhr").head(TAG).await.status(), 200);
    planet.settle().await;
    let (bill, ()) = planet
        .bill_for(async {
            for node in 0..60 {
                let response = planet.at("lhr").head(TAG).await;
                assert_eq!(response.status(), 200, "node {node} of a network");
                planet.advance(Duration::from_secs(1)).await;
            }
        })
        .await;
    assert_eq!(bill.object_requests, 0, "{:#?}", planet.operations().await);
    assert_eq!(origin.seen().len(), 1);
}

/// Under load, an object that fails must not turn one question into thousands.
#[tokio::test]
async fn the_backend_is_not_asked_in_place_of_an_object() {
    let origin = Origin::start().await;
    let settings = Settings { object_rate: 0, ..Settings::new(&origin.named()) };
    let overloaded = Planet::start(settings).await;
    let planet = Planet::start(Settings::new(&origin.named())).await;
    for (planet, fault) in [(&overloaded, ""), (&planet, "objects-reset")] {
        for (agent, expect) in [("containerd/2.1.0", 429), ("docker/28.2.2", 307)] {
            let request = planet.at("lhr").request(Method::GET, TAG).header("x-test-fault", fault);
            let response = request.header("user-agent", agent).send().await.expect("an answer");
            assert_eq!(response.status(), expect, "{fault} {agent}");
            if expect == 429 {
                assert!(response.headers().contains_key("retry-after"));
                let error = OciError::from_body(&response.bytes().await.expect("a body"));
                assert!(error.expect("an error").is_worth_waiting());
            } else {
                assert_eq!(response.headers()["location"], format!("{TAG}?firn-wait=1"));
            }
        }
    }
    assert!(origin.seen().is_empty());
    let response = planet.at("lhr").get(TAG).await;
    assert_eq!(response.status(), 200, "{}", response.text().await.expect("a body"));
}

/// Isolates cannot share promises, so each asks once, however many clients it has. An overloaded object is one for which
/// clients wait.
#[tokio::test]
async fn a_crowd_needs_few_requests_to_the_object() {
    let origin = Origin::start().await;
    let planet = Planet::start(Settings { object_rate: 8, ..Settings::new(&origin.named()) }).await;
    let answers = join_all((0..200).map(async |i| {
        let location = if i % 2 == 0 { "lhr" } else { "nrt" };
        planet.at(location).head(TAG).await.status().as_u16()
    }))
    .await;
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    assert_eq!(origin.seen().len(), 1);
}
