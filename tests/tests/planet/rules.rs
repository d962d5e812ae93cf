//! The planet has production's rules. A small Worker shows them (`probe.mjs`).

use firn_tests::edge::{
    Behaviour, Origin,
    planet::{Bill, Place, Planet, Settings},
};
use firn_tests::wait::{LONG, eventually};
use serde_json::{Value, json};
use std::time::Duration;

async fn planet(settings: impl FnOnce(Settings) -> Settings) -> Planet {
    let base = Settings::new("https://backend.example").limit("MISSES", 2);
    let base = Settings { unbound: Default::default(), ..base };
    Planet::start_with(include_str!("probe.mjs"), settings(base)).await
}

/// What comes of an operation.
async fn done(place: Place<'_>, path: &str) -> Value {
    let mut answer: Value = place.get(path).await.json().await.expect("JSON");
    assert!(answer["error"].is_null(), "{path}: {answer}");
    answer["value"].take()
}

/// The message of the error that an operation ends with.
async fn refused(place: Place<'_>, path: &str) -> Value {
    let mut answer: Value = place.get(path).await.json().await.expect("JSON");
    assert!(answer["error"].is_object(), "{path}: {answer}");
    answer["error"].take()
}

async fn pass(planet: &Planet, seconds: u64) {
    planet.advance(Duration::from_secs(seconds)).await;
}

/// A location keeps what it has read, also that there is nothing. It sees what was written elsewhere a minute later.
#[tokio::test]
async fn locations_see_what_is_written_a_minute_later() {
    let planet = planet(|settings| settings).await;
    let (lhr, nrt) = (planet.at("lhr"), planet.at("nrt"));
    assert_eq!(done(lhr, "/kv/get/a").await, Value::Null);
    done(lhr, "/kv/put/a?value=1").await;
    done(lhr, "/kv/put/b?value=1").await;
    assert_eq!(done(lhr, "/kv/get/a").await, Value::Null, "the location had a miss");
    assert_eq!(done(lhr, "/kv/get/b").await, "1", "the location had not asked");
    assert_eq!(done(lhr, "/kv/list/").await, json!(["a", "b"]));
    assert_eq!(done(nrt, "/kv/get/b").await, Value::Null);
    assert_eq!(done(nrt, "/kv/list/").await, json!([]));
    pass(&planet, 59).await;
    for place in [lhr, nrt] {
        assert_eq!(done(place, "/kv/get/a").await, Value::Null);
    }
    pass(&planet, 1).await;
    for isolate in [0, 1] {
        assert_eq!(done(lhr.isolate(isolate), "/kv/get/a").await, "1");
        assert_eq!(done(nrt.isolate(isolate), "/kv/get/b").await, "1");
        assert_eq!(done(nrt.isolate(isolate), "/kv/get/a").await, Value::Null, "it had a miss a second ago");
    }
    // What a test puts was there all the time.
    planet.put("kv", "a", b"2".to_vec(), None).await;
    for place in [lhr, nrt] {
        assert_eq!(done(place, "/kv/get/a").await, "2");
    }
}

#[tokio::test]
async fn a_key_takes_one_write_a_second() {
    let planet = planet(|settings| settings).await;
    let (lhr, nrt) = (planet.at("lhr"), planet.at("nrt"));
    done(lhr, "/kv/put/a?value=1").await;
    for path in ["/kv/put/a?value=2", "/kv/delete/a"] {
        let error = refused(nrt, path).await;
        assert!(error["message"].as_str().expect("text").contains("429 Too Many Requests"), "{error}");
    }
    done(nrt, "/kv/put/b?value=1").await;
    done(lhr, "/r2/put/a?value=1").await;
    let error = refused(nrt, "/r2/put/a?value=1").await;
    assert!(error["message"].as_str().expect("text").contains("10058"), "{error}");
    assert_eq!(done(nrt, "/r2/get/a").await, "1", "R2 shows it everywhere at once");
    pass(&planet, 1).await;
    done(nrt, "/kv/put/a?value=2").await;
    done(nrt, "/r2/put/a?value=2").await;
    assert_eq!(done(lhr, "/r2/get/a").await, "2");
}

#[tokio::test]
async fn what_kv_does_not_take_is_refused() {
    let planet = planet(|settings| settings).await;
    let long = "k".repeat(513);
    for path in [format!("/kv/put/{long}?value=1"), format!("/kv/get/{long}")] {
        let error = refused(planet.at("lhr"), &path).await;
        assert!(error["message"].as_str().expect("text").contains("414"), "{error}");
    }
}

/// An object has a limit, and a deployment takes its memory.
#[tokio::test]
async fn objects_are_overloaded_and_reset() {
    let planet = planet(|settings| Settings { object_rate: 3, ..settings }).await;
    let (lhr, nrt) = (planet.at("lhr"), planet.at("nrt"));
    assert_eq!(done(lhr, "/object/store/a").await, json!({ "requests": 1, "kept": 1, "read": null }));
    assert_eq!(done(nrt, "/object/look/a").await["requests"], 2, "it is one for all");
    assert_eq!(done(nrt, "/object/look/b").await["requests"], 1);
    done(lhr, "/object/look/a").await;
    let error = refused(lhr, "/object/look/a").await;
    assert_eq!((&error["overloaded"], &error["retryable"]), (&json!(true), &json!(false)), "{error}");
    pass(&planet, 1).await;
    assert_eq!(done(lhr, "/object/look/a").await["requests"], 4);
    planet.deploy().await;
    assert_eq!(done(lhr, "/object/look/a").await, json!({ "requests": 1, "kept": 1, "read": null }));

    // A request that an object has not answered fails.
    pass(&planet, 1).await;
    let hanging = async { refused(lhr, "/object/hang/a").await };
    let deploying = async {
        eventually("isolate and object have it", async || (planet.under_way().await == 2).then_some(()))
            .await;
        planet.deploy().await;
    };
    let (error, ()) = futures::join!(hanging, deploying);
    assert_eq!((&error["overloaded"], &error["retryable"]), (&json!(false), &json!(true)), "{error}");
}

/// An object has the view of KV that the location has where it was asked for first.
#[tokio::test]
async fn objects_live_somewhere() {
    let planet = planet(|settings| settings).await;
    done(planet.at("lhr"), "/object/look/here").await;
    done(planet.at("nrt"), "/object/look/there").await;
    done(planet.at("lhr"), "/kv/put/a?value=1").await;
    assert_eq!(done(planet.at("nrt"), "/object/read/here").await["read"], "1");
    assert_eq!(done(planet.at("lhr"), "/object/read/there").await["read"], Value::Null);
}

#[tokio::test]
async fn isolates_share_what_their_location_has_and_no_memory() {
    let planet = planet(|settings| settings).await;
    let (lhr, nrt) = (planet.at("lhr"), planet.at("nrt"));
    done(lhr.isolate(0), "/cache/put/a?value=1").await;
    assert_eq!(done(lhr.isolate(1), "/cache/match/a").await, "1");
    assert_eq!(done(nrt, "/cache/match/a").await, Value::Null);
    pass(&planet, 30).await;
    assert_eq!(done(lhr, "/cache/match/a").await, Value::Null);

    for expect in [1, 2] {
        assert_eq!(done(lhr.isolate(0), "/memory//").await, expect);
        assert_eq!(done(nrt.isolate(0), "/memory//").await, expect);
    }
    lhr.isolate(0).end().await;
    assert_eq!(done(lhr.isolate(0), "/memory//").await, 1);
    assert_eq!(done(nrt.isolate(0), "/memory//").await, 3);

    // Isolates take turns.
    for expect in [1, 2] {
        let counts = [done(lhr, "/memory//").await, done(lhr, "/memory//").await];
        assert!(counts.contains(&json!(expect)), "{counts:?}");
    }

    for (place, expect) in [(lhr, true), (lhr, true), (lhr, false), (nrt, true)] {
        assert_eq!(done(place, "/limit//client").await["success"], expect);
    }
    pass(&planet, 60).await;
    assert_eq!(done(lhr, "/limit//client").await["success"], true);
}

#[tokio::test]
async fn on_workers_dev_the_cache_keeps_nothing() {
    let planet = planet(|settings| Settings { workers_dev: true, ..settings }).await;
    done(planet.at("lhr"), "/cache/put/a?value=1").await;
    assert_eq!(done(planet.at("lhr"), "/cache/match/a").await, Value::Null);
}

#[tokio::test]
async fn time_moves_when_the_test_says() {
    let planet = planet(|settings| settings).await;
    let time = async |location| done(planet.at(location), "/time//").await.as_u64().expect("milliseconds");
    let start = time("lhr").await;
    assert_eq!(time("nrt").await, start);
    pass(&planet, 90).await;
    assert_eq!((time("lhr").await, time("nrt").await), (start + 90_000, start + 90_000));
}

/// A timer ends when the clock has moved so far, or after that time.
#[tokio::test]
async fn timers_follow_the_clock() {
    let planet = planet(|settings| settings).await;
    done(planet.at("lhr"), "/wait//150").await;
    for path in ["/wait//3600000", "/object/hang/a"] {
        let waiting = async { done(planet.at("lhr"), path).await };
        let moving = async {
            eventually("it waits", async || (planet.under_way().await > 0).then_some(())).await;
            pass(&planet, 3600).await;
        };
        futures::join!(waiting, moving);
    }
}

/// Servers are reached by names. Addresses are refused.
#[tokio::test]
async fn addresses_cannot_be_fetched() {
    let origin = Origin::start().await;
    let planet = planet(|settings| settings.with("FIRN_BACKEND_URL", &origin.named())).await;
    let path = |url: &str| format!("/fetch//{}", format!("{url}/v2/git/tags/list").replace('/', "%2F"));
    assert_eq!(done(planet.at("lhr"), &path(&origin.named())).await[0], 200);
    assert_eq!(done(planet.at("lhr"), &path(&origin.url)).await, json!([403, "error code: 1003"]));
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn subrequests_are_limited() {
    let planet = planet(Settings::free).await;
    done(planet.at("lhr"), "/many//50").await;
    let error = refused(planet.at("lhr"), "/many//51").await;
    assert!(error["message"].as_str().expect("text").contains("Too many subrequests"), "{error}");
}

/// Six subrequests may wait for their answers at once. The next one waits for one of them.
#[tokio::test]
async fn connections_are_limited() {
    let origin = Origin::start().await;
    origin.behave(Behaviour::Slow(LONG));
    let planet = planet(|settings| settings.with("FIRN_BACKEND_URL", &origin.named())).await;
    let url = format!("{}/v2/git/manifests/latest", origin.named()).replace('/', "%2F");
    for (waiting, expect) in [(5, json!("read")), (6, json!("not read"))] {
        assert_eq!(done(planet.at("lhr"), &format!("/beside/{waiting}/{url}")).await, expect);
    }
}

#[tokio::test]
async fn everything_that_costs_is_counted() {
    let planet = planet(|settings| settings).await;
    let lhr = planet.at("lhr");
    let one = Bill { worker_requests: 1, worker_runs: 1, ..Bill::default() };
    for (path, expect) in [
        ("/memory//", one),
        ("/kv/get/a", Bill { kv_reads: 1, ..one }),
        ("/kv/getWithMetadata/a", Bill { kv_reads: 1, ..one }),
        ("/kv/put/a?value=1", Bill { kv_writes: 1, ..one }),
        ("/kv/delete/b", Bill { kv_deletes: 1, ..one }),
        ("/kv/list/", Bill { kv_lists: 1, ..one }),
        ("/r2/put/a?value=1", Bill { r2_class_a: 1, ..one }),
        ("/r2/list/", Bill { r2_class_a: 1, ..one }),
        ("/r2/get/a", Bill { r2_class_b: 1, ..one }),
        ("/r2/head/a", Bill { r2_class_b: 1, ..one }),
        ("/r2/delete/a", one),
        ("/object/look/a", Bill { object_requests: 1, rows_read: 1, ..one }),
        ("/object/store/a", Bill { object_requests: 1, rows_read: 1, rows_written: 1, ..one }),
        ("/cache/match/a", one),
        ("/limit//a", one),
        ("/log//", Bill { log_lines: 1, ..one }),
        ("/point//", Bill { analytics_points: 1, ..one }),
    ] {
        let (bill, _) = planet.bill_for(done(lhr, path)).await;
        assert_eq!(bill, expect, "{path}: {:#?}", planet.operations().await);
    }
}
