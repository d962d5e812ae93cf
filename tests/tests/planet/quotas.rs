//! If one client's quota is used up, only that client is refused, though several isolates wait for the same answer.

use firn_shared::oci::error::OciError;
use firn_tests::{
    backend::Backend,
    edge::planet::{Planet, Settings},
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
    let port = backend.address().rsplit(':').next().expect("a port").to_owned();
    let settings = Settings::new(&format!("http://backend.example:{port}")).at("lhr", 4);
    let planet = Planet::start(settings.with("FIRN_SECRET", SECRET)).await;
    let ask = |isolate: usize, client: &str, name: &str| {
        let place = planet.at("lhr").isolate(isolate);
        let request = place.request(Method::GET, &format!("/v2/{name}/manifests/latest"));
        let request = request.header("cf-connecting-ip", client);
        async move { request.send().await.expect("an answer") }
    };
    let is_begun = |error: &OciError| page_of(&error.message).is_some();
    eventually("the first client has all that it may have", async || {
        is_begun(&told(ask(0, "203.0.113.1", "gated-1").await).await).then_some(())
    })
    .await;
    // While the backend does not answer, others join the first client's request.
    backend.pause();
    let flights = async || -> usize {
        let response = planet.client.get(format!("{}/.test/boarded", planet.url)).send().await;
        response.expect("an answer").json().await.expect("a number")
    };
    let before = flights().await;
    let boarded = async |count: usize| {
        eventually("they wait", async || (flights().await == before + count).then_some(())).await;
    };
    let first = tokio::spawn(ask(0, "203.0.113.1", "gated-2"));
    boarded(1).await;
    let others = [(1, "203.0.113.2"), (2, "203.0.113.1"), (3, "203.0.113.3")];
    let others = others.map(|(isolate, client)| (client, tokio::spawn(ask(isolate, client, "gated-2"))));
    boarded(4).await;
    backend.resume();
    let refused = told(first.await.expect("no panic")).await;
    assert!(refused.is_of_client_quota() && refused.message.contains("1 of your images"), "{refused:?}");
    for (client, other) in others {
        let told = told(other.await.expect("no panic")).await;
        assert_eq!(told.is_of_client_quota(), client == "203.0.113.1", "{client}: {told:?}");
    }
}
