//! Requests of one isolate for one new image.

use crate::pair;
use firn_tests::edge::Behaviour;
use futures::future::join_all;
use reqwest::Method;
use std::time::Duration;

const TAG: &str = "/v2/shell/git/manifests/latest";

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
