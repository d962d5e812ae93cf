//! A backend that breaks the protocol, and storage that fails or is damaged: clients get the right bytes or a clear
//! error, and nothing wrong is cached.

use crate::{header, pair, refusal};
use firn_shared::{
    link::authentication::AuthenticationError,
    oci::{
        digest::Digest,
        error::{ErrorCode, OciError},
        media_type::ManifestFormat,
    },
};
use firn_tests::{
    edge::{Behaviour, Edge, Origin, Settings},
    wait::{LONG, until},
};
use reqwest::Method;
use std::time::Duration;

const TAG: &str = "/v2/shell/git/manifests/latest";

fn misbehaviours() -> Vec<Behaviour> {
    vec![
        Behaviour::DieMidAnswer,
        Behaviour::LieAboutDigest,
        Behaviour::WrongContentType,
        Behaviour::Garbage(200),
        Behaviour::Garbage(404),
        Behaviour::Garbage(500),
        Behaviour::Garbage(502),
        Behaviour::Garbage(302),
        Behaviour::Endless,
    ]
}

#[tokio::test]
async fn what_is_wrong_is_neither_passed_on_nor_remembered() {
    let (edge, origin) = pair(|settings| settings).await;
    for behaviour in misbehaviours() {
        origin.behave(behaviour.clone());
        let response = edge.get(TAG).await;
        assert!(!header(&response, "retry-after").is_empty(), "{behaviour:?}");
        assert_eq!(refusal(response).await, (503, "UNAVAILABLE".to_owned()), "{behaviour:?}");
        assert_eq!(edge.head(TAG).await.status(), 503, "{behaviour:?}");
    }
    assert!(edge.keys().await.is_empty());
    origin.behave(Behaviour::Good);
    assert_eq!(edge.get(TAG).await.status(), 200);
}

/// A wrong secret is one reason of many why a request is refused. Access in front of a backend is another.
#[tokio::test]
async fn the_secret_is_suspected_only_if_the_signature_was_refused() {
    let denied = |message: &str| Behaviour::Refuse(OciError::new(ErrorCode::Denied, message));
    let mismatch = AuthenticationError::Mismatch.to_string();
    let expired = AuthenticationError::Expired.to_string();
    for (behaviour, reason, is_suspected) in [
        (denied(&mismatch), mismatch.as_str(), true),
        (denied(&expired), expired.as_str(), false),
        (denied("pull access denied"), "status 403", false),
        (Behaviour::Garbage(403), "status 403", false),
        (Behaviour::Garbage(401), "status 401", false),
    ] {
        let (edge, origin) = pair(|settings| settings).await;
        origin.behave(behaviour.clone());
        let response = edge.get(TAG).await;
        assert_eq!(refusal(response).await, (503, "UNAVAILABLE".to_owned()), "{behaviour:?}");
        until("the reason is logged", LONG, || edge.log().contains(reason).then_some(()));
        assert_eq!(edge.log().contains("same secret"), is_suspected, "{behaviour:?}: {}", edge.log());
    }
}

#[tokio::test]
async fn a_good_backend_makes_up_for_a_bad_one() {
    let (bad, good) = (Origin::start().await, Origin::start().await);
    let edge = Edge::start(Settings::new(&format!("{} {}", bad.url, good.url))).await;
    for (i, behaviour) in misbehaviours().into_iter().enumerate() {
        bad.behave(behaviour.clone());
        let response = edge.get(&format!("/v2/a{i}/manifests/latest")).await;
        assert_eq!(response.status(), 200, "{behaviour:?}");
        let bytes = response.bytes().await.expect("a body");
        assert_eq!(bytes, Origin::manifest(&format!("a{i}"), "set-1", ManifestFormat::Oci), "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_digest_gets_its_own_bytes_or_nothing() {
    let (edge, origin) = pair(|settings| settings).await;
    // A consistent lie: other bytes, under their own digest.
    origin.behave(Behaviour::Slow(Duration::ZERO));
    let path = format!("/v2/shell/git/manifests/{}", Digest::of(b"something else"));
    assert_eq!(refusal(edge.get(&path).await).await, (503, "UNAVAILABLE".to_owned()));
    assert!(edge.keys().await.is_empty());
}

#[tokio::test]
async fn garbage_in_kv_is_as_good_as_nothing() {
    let (edge, origin) = pair(Settings::forgetful).await;
    let bytes = edge.get(TAG).await.bytes().await.expect("a body");
    let keys = edge.await_keys(3).await;
    let by_digest = format!("/v2/shell/git/manifests/{}", Digest::of(&bytes));
    for garbage in [b"".to_vec(), b"garbage".to_vec(), [&bytes[..], b" "].concat()] {
        for (key, metadata) in &keys {
            let metadata = (!metadata.is_null()).then(|| metadata.to_string());
            edge.put("kv", key, garbage.clone(), metadata.as_deref()).await;
            edge.put("kv", key, garbage.clone(), Some(r#"{"digest":"x"}"#)).await;
        }
        for path in [TAG, &by_digest] {
            let response = edge.get(path).await;
            assert_eq!(response.status(), 200, "{path}");
            assert_eq!(response.bytes().await.expect("a body"), bytes, "{path}");
        }
    }
    assert!(origin.seen().len() > 1);
}

/// A Durable Object that does not answer delays a client no longer than a backend would.
#[tokio::test]
async fn durable_objects_may_hang() {
    let (edge, origin) = pair(|settings| settings).await;
    let request = edge.request(Method::GET, TAG).header("x-test-fault", "objects-hang");
    let response = request.timeout(LONG).send().await.expect("an answer");
    assert!(!header(&response, "retry-after").is_empty());
    assert_eq!(refusal(response).await, (429, "TOOMANYREQUESTS".to_owned()));
    assert!(origin.seen().is_empty());
    assert_eq!(edge.get(TAG).await.status(), 200);
}

#[tokio::test]
async fn kv_may_fail() {
    // Objects have bindings of their own, which do not fail.
    let alone = |settings: Settings| Settings { flights: false, tags: false, ..settings.forgetful() };
    let (edge, origin) = pair(alone).await;
    let get = async |fault: &str| {
        let request = edge.request(Method::GET, TAG).header("x-test-fault", fault);
        let response = request.send().await.expect("an answer");
        (response.status().as_u16(), header(&response, "x-firn-source").to_owned())
    };
    assert_eq!(get("kv-put").await, (200, "backend".to_owned()));
    assert!(edge.keys().await.is_empty());
    assert_eq!(get("kv-get,kv-put").await, (200, "backend".to_owned()));
    assert_eq!(get("").await, (200, "backend".to_owned()));
    // What the tag names is known to this isolate.
    edge.await_keys(2).await;
    assert_eq!(get("kv-get").await, (200, "backend".to_owned()));
    assert_eq!(get("kv-put").await, (200, "kv".to_owned()));
    assert_eq!(origin.seen().len(), 4);
}
