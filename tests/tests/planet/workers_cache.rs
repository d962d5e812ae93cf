//! Workers Cache on the planet, in front of a small Worker whose answers have the headers in the request's query
//! (`probe.mjs`).

use firn_tests::edge::planet::{Bill, Place, Planet, Settings};
use futures::future::join_all;
use reqwest::{Method, Response};
use std::time::Duration;

async fn planet() -> Planet {
    let settings = Settings { workers_cache: true, ..Settings::new("https://backend.example") };
    // One isolate each, so that the body's number is the number of runs at a location.
    Planet::start_with(include_str!("probe.mjs"), settings.at("lhr", 1).at("nrt", 1)).await
}

fn status(response: &Response) -> String {
    response.headers()["cf-cache-status"].to_str().expect("text").to_owned()
}

/// What the cache did, and the body.
async fn get(place: Place<'_>, path: &str) -> (String, String) {
    let response = place.get(path).await;
    (status(&response), response.text().await.expect("a body"))
}

fn said(status: &str, body: &str) -> (String, String) {
    (status.to_owned(), body.to_owned())
}

async fn pass(planet: &Planet, seconds: u64) {
    planet.advance(Duration::from_secs(seconds)).await;
}

/// A hit costs a request, but does not run the Worker. The second tier answers other locations.
#[tokio::test]
async fn an_answer_is_kept_in_both_tiers() {
    let planet = planet().await;
    let path = "/answer/a?cache-control=max-age%3D60&cache-tag=x";
    let (bill, first) = planet.bill_for(get(planet.at("lhr"), path)).await;
    assert_eq!(first, said("MISS", "GET 1"));
    let one = Bill { worker_requests: 1, ..Bill::default() };
    assert_eq!(bill, Bill { worker_runs: 1, ..one });
    for location in ["lhr", "nrt"] {
        let (bill, hit) = planet.bill_for(get(planet.at(location), path)).await;
        assert_eq!((hit, bill), (said("HIT", "GET 1"), one));
    }
    let response = planet.at("lhr").get(path).await;
    assert!(!response.headers().contains_key("cache-tag"), "tags are for the cache only");
    assert_eq!(get(planet.at("lhr"), &format!("{path}&x=1")).await, said("MISS", "GET 2"));
    pass(&planet, 60).await;
    assert_eq!(get(planet.at("nrt"), path).await, said("EXPIRED", "GET 1"));
    assert_eq!(get(planet.at("lhr"), path).await, said("HIT", "GET 1"));
    planet.deploy().await;
    assert_eq!(get(planet.at("lhr"), path).await, said("MISS", "GET 1"), "each version has its own cache");
}

#[tokio::test]
async fn headers_decide_what_is_kept() {
    let planet = planet().await;
    // Whether it is still a hit after these many seconds, and whether it is not after these.
    for (query, kept, gone) in [
        ("", Some(7199), 7200),
        ("status=404", Some(179), 180),
        ("status=307", None, 0),
        ("status=307&cache-control=max-age%3D9", Some(8), 9),
        ("status=500", None, 0),
        ("status=206&cache-control=max-age%3D9", None, 0),
        ("cache-control=no-store", None, 0),
        ("cache-control=private,max-age%3D9", None, 0),
        ("cache-control=max-age%3D9&set-cookie=a", None, 0),
        ("cache-control=max-age%3D9&vary=*", None, 0),
        ("cache-control=max-age%3D9,s-maxage%3D5", Some(4), 5),
        ("cache-control=max-age%3D9&cdn-cache-control=max-age%3D5", Some(4), 5),
        ("cache-control=max-age%3D9&cloudflare-cdn-cache-control=no-store", None, 0),
    ] {
        let path = format!("/answer/a?{query}");
        let expect = if kept.is_some() { "MISS" } else { "BYPASS" };
        assert_eq!(get(planet.at("lhr"), &path).await.0, expect, "{query}");
        if let Some(kept) = kept {
            pass(&planet, kept).await;
            assert_eq!(get(planet.at("lhr"), &path).await.0, "HIT", "{query}");
            pass(&planet, gone - kept).await;
        }
        assert_ne!(get(planet.at("lhr"), &path).await.0, "HIT", "{query}");
    }
}

#[tokio::test]
async fn requests_with_credentials_are_not_kept_unless_the_answer_is_public() {
    let planet = planet().await;
    for (query, expect) in
        [("cache-control=max-age%3D9", "BYPASS"), ("cache-control=public,max-age%3D9", "MISS")]
    {
        let path = format!("/answer/a?{query}");
        let request = planet.at("lhr").request(Method::GET, &path).basic_auth("ann", Some("secret"));
        assert_eq!(status(&request.send().await.expect("an answer")), expect);
    }
    assert_eq!(
        get(planet.at("lhr"), "/answer/a?cache-control=public,max-age%3D9").await.0,
        "HIT",
        "for anybody"
    );
}

/// The Worker never sees HEAD.
#[tokio::test]
async fn head_and_get_share_an_answer() {
    let planet = planet().await;
    let path = "/answer/a?cache-control=max-age%3D60";
    let head = planet.at("lhr").head(path).await;
    assert_eq!((status(&head).as_str(), head.headers()["content-length"].as_bytes()), ("MISS", &b"5"[..]));
    assert_eq!(get(planet.at("lhr"), path).await, said("HIT", "GET 1"));
    assert_eq!(status(&planet.at("lhr").head("/answer/b?cache-control=no-store").await), "BYPASS");
    assert_eq!(get(planet.at("lhr"), path).await, said("HIT", "GET 1"));
    assert_eq!(planet.bill().await.worker_runs, 2);
    // The cache itself answers for parts, and for clients that have it.
    let part = planet.at("lhr").request(Method::GET, path).header("range", "bytes=1-2").send().await;
    let part = part.expect("an answer");
    assert_eq!((part.status().as_u16(), part.text().await.expect("a body").as_str()), (206, "ET"));
    let known = planet.at("lhr").request(Method::GET, path).header("if-none-match", "\"same\"").send().await;
    assert_eq!(known.expect("an answer").status(), 304);
}

#[tokio::test]
async fn variants_are_told_apart_by_the_exact_header() {
    let planet = planet().await;
    let path = "/answer/a?cache-control=max-age%3D60&vary=Accept";
    for (accept, expect) in [("a, b", "GET 1"), ("b, a", "GET 2"), ("a, b", "GET 1"), ("b, a", "GET 2")] {
        let response = planet.at("lhr").request(Method::GET, path).header("accept", accept).send().await;
        assert_eq!(response.expect("an answer").text().await.expect("a body"), expect, "{accept}");
    }
}

#[tokio::test]
async fn stale_answers_are_served_while_the_worker_is_asked() {
    let planet = planet().await;
    let path = "/answer/a?cache-control=max-age%3D60,stale-while-revalidate%3D60";
    assert_eq!(get(planet.at("lhr"), path).await, said("MISS", "GET 1"));
    pass(&planet, 119).await;
    assert_eq!(get(planet.at("lhr"), path).await, said("UPDATING", "GET 1"));
    planet.settle().await;
    assert_eq!(get(planet.at("lhr"), path).await, said("HIT", "GET 2"));
    pass(&planet, 120).await;
    assert_eq!(get(planet.at("lhr"), path).await, said("EXPIRED", "GET 3"));
    // These forbid it.
    let path = "/answer/a?cache-control=s-maxage%3D60,stale-while-revalidate%3D60";
    assert_eq!(get(planet.at("lhr"), path).await.0, "MISS");
    pass(&planet, 61).await;
    assert_eq!(get(planet.at("lhr"), path).await.0, "EXPIRED");
    // An answer that has not changed stays.
    let path = "/answer/a?cache-control=max-age%3D60&unchanged=1";
    assert_eq!(get(planet.at("lhr"), path).await, said("MISS", "GET 6"));
    pass(&planet, 61).await;
    assert_eq!(get(planet.at("lhr"), path).await, said("REVALIDATED", "GET 6"));
    assert_eq!(get(planet.at("lhr"), path).await.0, "HIT");
}

#[tokio::test]
async fn concurrent_clients_run_the_worker_once() {
    let planet = planet().await;
    let ask = async |path: &str| {
        let places = ["lhr", "nrt", "lhr", "lhr"].map(|location| planet.at(location));
        let (bill, _) = planet.bill_for(join_all(places.map(|place| get(place, path)))).await;
        bill.worker_runs
    };
    assert_eq!(ask("/answer/a?cache-control=max-age%3D60&delay=200").await, 1);
    assert_eq!(ask("/answer/a?cache-control=no-store&delay=200").await, 4, "what is not kept is not shared");
}

#[tokio::test]
async fn answers_are_purged_by_tag() {
    let planet = planet().await;
    let path = |tags: &str| format!("/answer/a?cache-control=max-age%3D60&cache-tag={tags}");
    for tags in ["One,two", "two"] {
        get(planet.at("lhr"), &path(tags)).await;
        assert_eq!(get(planet.at("nrt"), &path(tags)).await.0, "HIT");
    }
    let purge = planet.at("lhr").request(Method::POST, "/purge//one").send().await.expect("an answer");
    assert!(purge.text().await.expect("a body").contains("\"success\":true"));
    assert_eq!(get(planet.at("nrt"), &path("One,two")).await.0, "MISS");
    assert_eq!(get(planet.at("nrt"), &path("two")).await.0, "HIT");
}
