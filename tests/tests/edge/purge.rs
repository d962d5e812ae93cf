//! `POST /purge`: Workers Cache forgets what it has, for those who know the token.

use crate::{pair, refusal, until_limited};
use firn_tests::edge::{Edge, Settings};
use reqwest::{Method, RequestBuilder};

fn with_token(settings: Settings) -> Settings {
    settings.with("FIRN_PURGE_TOKEN", "t0ken")
}

fn purge(edge: &Edge, path: &str) -> RequestBuilder {
    edge.request(Method::POST, path)
}

#[tokio::test]
async fn the_token_makes_the_cache_forget() {
    let (edge, _origin) = pair(with_token).await;
    for path in ["/purge", "/purge?only=image/shell/git,tag/latest"] {
        let response = purge(&edge, path).bearer_auth("t0ken").send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
    }
    let expect = serde_json::json!([
        { "purgeEverything": true },
        { "tags": ["image/shell/git", "tag/latest"] },
    ]);
    assert_eq!(edge.purged().await, expect);
}

#[tokio::test]
async fn nobody_else_may() {
    let (edge, _origin) = pair(with_token).await;
    for request in [
        purge(&edge, "/purge"),
        purge(&edge, "/purge").bearer_auth(""),
        purge(&edge, "/purge").bearer_auth("token"),
        purge(&edge, "/purge").header("authorization", "t0ken"),
    ] {
        assert_eq!(refusal(request.send().await.expect("an answer")).await, (403, "DENIED".to_owned()));
    }
    // A GET, which caches could answer, is no order.
    let get = edge.request(Method::GET, "/purge").bearer_auth("t0ken").send().await.expect("an answer");
    assert_eq!(get.status(), 404);
    let (without, _origin) = pair(|settings| settings).await;
    for token in ["", "t0ken"] {
        let response = purge(&without, "/purge").bearer_auth(token).send().await.expect("an answer");
        assert_eq!(response.status(), 405, "there is no such route");
    }
    for edge in [edge, without] {
        assert_eq!(edge.purged().await, serde_json::json!([]));
    }
}

#[tokio::test]
async fn guesses_are_limited() {
    let (edge, _origin) = pair(|settings| Settings { misses: Some(3), ..with_token(settings) }).await;
    until_limited(3, async |_| purge(&edge, "/purge").bearer_auth("guess").send().await.expect("an answer"))
        .await;
}
