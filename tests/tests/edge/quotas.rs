//! If one client's quota is used up, only that client is refused, though several wait for the same answer.

use firn_shared::oci::error::OciError;
use firn_tests::{
    backend::Backend,
    edge::{Edge, Settings},
    gates::Gates,
    registry::page_of,
    wait::eventually,
};
use reqwest::{Method, Response};

const SECRET: &str = "s3cret";

async fn told(response: Response) -> OciError {
    assert_eq!(response.status(), 429);
    let body = response.bytes().await.expect("a body");
    OciError::from_body(&body).unwrap_or_else(|| panic!("an OCI error, not {body:?}"))
}

#[tokio::test]
async fn a_quota_is_refused_to_its_client_alone() {
    let gates = Gates::new();
    let backend = Backend::serving_expression(&gates.package_set())
        .env("FIRN_SECRET", SECRET)
        .args(&["--max-queue-per-client", "1", "--wait", "1"])
        .start();
    let settings = Settings::new(&format!("http://{}", backend.address())).with("FIRN_SECRET", SECRET);
    let edge = Edge::start(settings).await;
    let ask = |client: &str, name: &str| {
        let request = edge.request(Method::GET, &format!("/v2/{name}/manifests/latest"));
        let request = request.header("cf-connecting-ip", client);
        async move { request.send().await.expect("an answer") }
    };
    let is_begun = |error: &OciError| page_of(&error.message).is_some();
    eventually("the first client has all that it may have", async || {
        is_begun(&told(ask("203.0.113.1", "gated-1").await).await).then_some(())
    })
    .await;
    // While the backend does not answer, others join the first client's request.
    backend.pause();
    let before = edge.boarded().await;
    let first = tokio::spawn(ask("203.0.113.1", "gated-2"));
    eventually("it waits", async || (edge.boarded().await == before + 1).then_some(())).await;
    let waiting = edge.as_ref().under_way().await;
    let others = ["203.0.113.2", "203.0.113.1", "203.0.113.3"];
    let others = others.map(|client| (client, tokio::spawn(ask(client, "gated-2"))));
    eventually("they wait", async || (edge.as_ref().under_way().await == waiting + 3).then_some(())).await;
    assert_eq!(edge.boarded().await, before + 1, "for the first one's answer");
    backend.resume();
    let refused = told(first.await.expect("no panic")).await;
    assert!(refused.is_of_client_quota() && refused.message.contains("1 of your images"), "{refused:?}");
    for (client, other) in others {
        let told = told(other.await.expect("no panic")).await;
        // Another request of the first client may have joined a question of the others.
        assert!(!told.is_of_client_quota() || client == "203.0.113.1", "{client}: {told:?}");
    }
    eventually("the others' build has begun", async || {
        is_begun(&told(ask("203.0.113.2", "gated-2").await).await).then_some(())
    })
    .await;
}
