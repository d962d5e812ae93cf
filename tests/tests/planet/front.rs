//! The Worker behind Workers Cache, as far as the planet imitates it.

use firn_shared::{
    link::object_key::blob_key,
    oci::{
        digest::Digest,
        error::{ErrorCode, OciError},
    },
};
use firn_tests::edge::{
    Behaviour, Origin,
    planet::{Place, Planet, Settings},
};
use reqwest::{Method, RequestBuilder, Response};
use std::time::Duration;

const TAG: &str = "/v2/git/htop/manifests/latest";

async fn planet(settings: impl FnOnce(Settings) -> Settings) -> (Planet, Origin) {
    let origin = Origin::start().await;
    let base = Settings { workers_cache: true, ..Settings::new(&origin.named()) };
    (Planet::start(settings(base)).await, origin)
}

/// What the cache did, and the status of the answer.
fn said(response: &Response) -> (&str, u16) {
    (response.headers()["cf-cache-status"].to_str().expect("text"), response.status().as_u16())
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn manifests_are_answered_without_the_worker_for_a_while() {
    let (planet, origin) = planet(|settings| settings).await;
    let lhr = planet.at("lhr");
    let first = lhr.get(TAG).await;
    assert_eq!(said(&first), ("MISS", 200));
    let by_digest = format!(
        "/v2/git/htop/manifests/{}",
        first.headers()["docker-content-digest"].to_str().expect("a digest")
    );
    assert_eq!(said(&lhr.get(&by_digest).await), ("MISS", 200));
    planet.settle().await;
    for path in [TAG, &by_digest] {
        let (bill, hit) = planet.bill_for(lhr.get(path)).await;
        assert_eq!((said(&hit), bill.worker_requests, bill.worker_runs), (("HIT", 200), 1, 0));
    }
    // The Worker says that nothing has changed. When a tag counts no longer, it asks the backend as always.
    planet.advance(Duration::from_secs(61)).await;
    assert_eq!(said(&lhr.get(TAG).await), ("REVALIDATED", 200));
    planet.settle().await;
    origin.move_to("set-2");
    planet.advance(Duration::from_secs(900)).await;
    // Each image of a tag that has moved changes at its own time within a minute, and in the background.
    for _ in 0..2 {
        assert_eq!(said(&lhr.get(TAG).await), ("REVALIDATED", 200));
        planet.settle().await;
        planet.advance(Duration::from_secs(61)).await;
    }
    assert_eq!(said(&lhr.get(TAG).await), ("EXPIRED", 200));
    // The manifest is reported as pulled before the backend may delete its blobs.
    planet.advance(Duration::from_secs(900)).await;
    assert_eq!(said(&lhr.get(&by_digest).await), ("REVALIDATED", 200));
}

/// By default, the last answer is repeated for as long as the Worker answers with 5xx.
#[tokio::test]
async fn an_answer_does_not_outlive_its_time_when_the_backend_fails() {
    let (planet, origin) = planet(|settings| settings.with("FIRN_COMPOSE", "false")).await;
    let path = format!("/v2/git/manifests/{}", {
        let first = planet.at("lhr").get("/v2/git/manifests/latest").await;
        first.headers()["docker-content-digest"].to_str().expect("a digest").to_owned()
    });
    assert_eq!(said(&planet.at("lhr").get(&path).await), ("MISS", 200));
    planet.settle().await;
    origin.behave(Behaviour::Garbage(502));
    for (key, _) in planet.keys().await {
        let delete = planet.client.delete(format!("{}/.test/kv/{key}", planet.url));
        assert!(send(delete).await.status().is_success());
    }
    // Longer than the Cache API keeps it.
    planet.advance(Duration::from_secs(2 * 24 * 3600)).await;
    let response = planet.at("lhr").get(&path).await;
    assert_eq!(said(&response).1, 503, "{:?}", response.headers());
}

/// A 404 would be kept for three minutes without a word, and an image that is not there now may be in a moment.
#[tokio::test]
async fn errors_run_the_worker_each_time() {
    let (planet, origin) = planet(|settings| settings.with("FIRN_BLOBS", "r2")).await;
    let (lhr, digest) = (planet.at("lhr"), Digest::of(b"blob"));
    let blob = format!("/v2/git/blobs/{digest}");
    assert_eq!(said(&lhr.get(&blob).await), ("BYPASS", 404));
    let refusal = OciError::new(ErrorCode::NameUnknown, "no such package");
    origin.behave(Behaviour::Refuse(refusal));
    assert_eq!(said(&lhr.get(TAG).await), ("BYPASS", 404));
    origin.behave(Behaviour::Good);
    assert_eq!(said(&lhr.get(TAG).await), ("MISS", 200));
    planet.put("r2", &blob_key(&digest), b"blob".to_vec(), None).await;
    // A range that is not there says nothing about the blob.
    let range = send(lhr.request(Method::GET, &blob).header("range", "bytes=9-")).await;
    assert_eq!(range.status(), 416);
    assert_eq!(said(&lhr.get(&blob).await), ("MISS", 200));
    assert_eq!(said(&planet.at("nrt").get(&blob).await), ("HIT", 200));
}

/// The cache asks nobody for a password.
#[tokio::test]
async fn a_private_edge_is_asked_each_time() {
    let private = |settings: Settings| {
        let settings = settings.with("FIRN_ACCESS", "private").with("FIRN_SECRET", "s3cret");
        settings.with("FIRN_USERS", "ann:secret").with("FIRN_BLOBS", "r2")
    };
    let (planet, _origin) = planet(private).await;
    let config = Digest::of(b"config");
    planet.put("r2", &blob_key(&config), b"config".to_vec(), None).await;
    let blob = format!("/v2/git/htop/blobs/{config}");
    let known = |place: Place<'_>, path: &str| {
        send(place.request(Method::GET, path).basic_auth("ann", Some("secret")))
    };
    for path in ["/v2/", TAG, &blob, "/v2/git/htop/tags/list"] {
        for _ in 0..2 {
            assert_eq!(said(&known(planet.at("lhr"), path).await), ("BYPASS", 200), "{path}");
        }
        assert_eq!(said(&planet.at("lhr").get(path).await), ("BYPASS", 401), "{path}");
    }
}

fn purge(place: Place<'_>, path: &str) -> RequestBuilder {
    place.request(Method::POST, path)
}

/// `POST /purge` has the cache forget what it should, everywhere.
#[tokio::test]
async fn the_token_makes_the_cache_forget() {
    let (planet, _origin) = planet(|settings| settings.with("FIRN_PURGE_TOKEN", "t0ken")).await;
    let (lhr, nrt) = (planet.at("lhr"), planet.at("nrt"));
    let other = "/v2/git/manifests/latest";
    let fill = async || {
        for path in [TAG, other] {
            lhr.get(path).await;
            planet.settle().await;
            assert_eq!(said(&nrt.get(path).await), ("HIT", 200));
        }
    };
    // Under every spelling of its name.
    for (path, gone, kept) in [
        ("/purge?only=image/git/htop", vec![TAG], vec![other]),
        ("/purge?only=image/nano,tag/latest", vec![TAG, other], vec![]),
        ("/purge", vec![TAG, other], vec![]),
    ] {
        fill().await;
        let response = send(purge(lhr, path).bearer_auth("t0ken")).await;
        assert_eq!(response.status(), 200, "{path}");
        for kept in kept {
            assert_eq!(said(&nrt.get(kept).await), ("HIT", 200), "{path}");
        }
        for gone in gone {
            assert_eq!(said(&nrt.get(gone).await), ("MISS", 200), "{path}");
        }
    }
}

#[tokio::test]
async fn nobody_else_may_purge() {
    let (planet, _origin) =
        planet(|settings| settings.with("FIRN_PURGE_TOKEN", "t0ken").limit("MISSES", 5)).await;
    let lhr = planet.at("lhr");
    lhr.get(TAG).await;
    for request in [
        purge(lhr, "/purge"),
        purge(lhr, "/purge").bearer_auth(""),
        purge(lhr, "/purge").bearer_auth("token"),
        purge(lhr, "/purge").header("authorization", "t0ken"),
    ] {
        assert_eq!(send(request).await.status(), 403);
    }
    assert_eq!(send(purge(lhr, "/purge").bearer_auth("token")).await.status(), 429, "guesses are limited");
    // A GET, which caches could answer, is no order.
    let get = lhr.request(Method::GET, "/purge").bearer_auth("t0ken");
    assert_eq!(send(get).await.status(), 404);
    assert_eq!(said(&lhr.get(TAG).await), ("HIT", 200));
    let (planet, _origin) = self::planet(|settings| settings).await;
    for token in ["", "t0ken"] {
        assert_eq!(
            send(purge(planet.at("lhr"), "/purge").bearer_auth(token)).await.status(),
            405,
            "no such route"
        );
    }
}
