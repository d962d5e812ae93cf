//! Downloads that break, stop, or go elsewhere.

use super::*;
use crate::packing::noise;
use server::Fault;

/// A path of three megabytes that does not compress, in a server.
async fn serve() -> (Server, fixture::Facts, (PackedLayer, Vec<u8>)) {
    let bytes = noise(3_000_000, 5);
    let (files, facts) = CacheFiles::of_file(40, &bytes, "zstd");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    std::fs::write(&file, &bytes).expect("written");
    (Server::start(files).await, facts.clone(), pack_from_disk(&facts.path, &file))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_is_resumed() {
    let (server, facts, expect) = serve().await;
    let caches = caches(&[&server.url]);
    let found = find(&caches, &facts.path).await;
    server.fault(&facts.location, Fault::Cut(1_500_000), 1);
    assert!(pack(&caches, &found).await.expect("packs") == expect);
    let requests = server.requests(&facts.location);
    assert_eq!(requests.len(), 2);
    assert!(requests[1].as_ref().is_some_and(|range| range.starts_with("bytes=")), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_starts_over() {
    let (server, facts, expect) = serve().await;
    let caches = caches(&[&server.url]);
    let found = find(&caches, &facts.path).await;
    server.without_ranges().fault(&facts.location, Fault::Cut(1_500_000), 2);
    assert!(pack(&caches, &found).await.expect("packs") == expect);
    assert_eq!(server.requests(&facts.location).len(), 3);
}

/// Each of these ends a source in the middle of the NAR. The next one goes on where it was, even in another compression.
#[tokio::test(flavor = "multi_thread")]
async fn another_cache_goes_on() {
    let (server, facts, expect) = serve().await;
    for compression in ["xz", "none"] {
        let (files, _) = CacheFiles::of_file(50, &noise(3_000_000, 5), compression);
        let other = Server::start(files).await;
        let impatient = Limits { patience: Duration::from_millis(300), ..limits() };
        for fault in [
            Fault::Cut(1_500_000),
            Fault::Cut(0),
            Fault::Stall(1_500_000),
            Fault::Stall(0),
            Fault::Drip,
            Fault::Status(404, vec![]),
            Fault::Status(403, vec![]),
            Fault::Status(401, vec![]),
            Fault::Status(500, vec![]),
            Fault::Status(429, vec![("retry-after", "3600".into())]),
            Fault::Status(302, vec![("location", "/elsewhere".into())]),
            Fault::Status(302, vec![("location", format!("/{}", facts.location))]),
            Fault::Status(200, vec![]),
        ] {
            // Each time anew: what a cache did is remembered.
            let caches = caches_with(&[&server.url, &other.url], impatient.clone());
            let found = find(&caches, &facts.path).await;
            assert_eq!(found.sources.len(), 2);
            server.fault(&facts.location, fault.clone(), usize::MAX);
            let packed = pack(&caches, &found).await;
            assert!(packed.unwrap_or_else(|error| panic!("{fault:?}: {error:?}")) == expect, "{fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_recovers_is_tried_again() {
    let (server, facts, expect) = serve().await;
    for fault in
        [Fault::Status(500, vec![]), Fault::Status(429, vec![("retry-after", "1".into())]), Fault::Cut(0)]
    {
        let caches = caches(&[&server.url]);
        let found = find(&caches, &facts.path).await;
        server.fault(&facts.location, fault.clone(), 1);
        assert!(pack(&caches, &found).await.expect("packs") == expect, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_does_not_recover_is_named() {
    let (server, facts, _) = serve().await;
    let caches = caches(&[&server.url]);
    let found = find(&caches, &facts.path).await;
    for (fault, reason) in [
        (Fault::Status(500, vec![]), "answers 500"),
        (Fault::Status(404, vec![]), "answers 404"),
        (Fault::Cut(1000), "error"),
    ] {
        server.fault(&facts.location, fault, usize::MAX);
        let error = nar_error(pack(&caches, &found).await);
        let text = error.to_string();
        assert!(matches!(error, NarError::Unavailable { .. }) && error.to_be_replaced().is_none(), "{text}");
        assert!(text.contains(&server.url) && text.contains(reason), "{text}");
    }
}

/// After a cache has not delivered, others come first for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_does_not_deliver_is_asked_last() {
    let (server, facts, expect) = serve().await;
    let (files, _) = CacheFiles::of_file(50, &noise(3_000_000, 5), "none");
    let other = Server::start(files).await;
    let caches = caches(&[&server.url, &other.url]);
    let found = find(&caches, &facts.path).await;
    server.fault(&facts.location, Fault::Status(500, vec![]), usize::MAX);
    for _ in 0..3 {
        assert!(pack(&caches, &found).await.expect("packs") == expect);
    }
    assert_eq!(server.requests(&facts.location).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed() {
    let (server, facts, expect) = serve().await;
    let bucket = Server::start(CacheFiles::default()).await;
    server.change(|files| {
        let nar = files.0.remove(&facts.location).expect("the NAR");
        bucket.change(|bucket| drop(bucket.0.insert("object".into(), nar)));
    });
    let to = Fault::Status(307, vec![("location", format!("{}/object", bucket.url))]);
    server.fault(&facts.location, to, usize::MAX);
    bucket.fault("object", Fault::Cut(1_500_000), 1);
    let caches = caches(&[&server.url]);
    assert!(pack(&caches, &find(&caches, &facts.path).await).await.expect("packs") == expect);
    assert_eq!(bucket.requests("object").len(), 2);
}

/// The record of a path says where its NAR was. The cache has moved it since.
#[tokio::test(flavor = "multi_thread")]
async fn a_nar_that_has_moved_is_found() {
    let (server, facts, expect) = serve().await;
    let caches = caches(&[&server.url]);
    let found = find(&caches, &facts.path).await;
    server.change(|files| {
        let nar = files.0.remove(&facts.location).expect("the NAR");
        files.0.insert("nar/moved".into(), nar);
        files
            .say(&fixture::Facts { location: "nar/moved".into(), ..facts.clone() }, Some(&facts.signature()));
    });
    assert!(pack(&caches, &found).await.expect("packs") == expect);
}

/// A tree that nobody reads to its end, and a runtime that is busy, leave nothing behind that waits.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_to_read_on() {
    use crate::packing::TreeReader;
    let (server, facts, _) = serve().await;
    let caches = caches(&[&server.url]);
    let found = find(&caches, &facts.path).await;
    for _ in 0..100 {
        let mut tree = caches.open(&found);
        tokio::task::spawn_blocking(move || tree.step().map(|step| step.is_some()))
            .await
            .expect("no panic")
            .expect("a step");
        drop(caches.open(&found));
    }
    assert!(pack(&caches, &found).await.is_ok());
}

/// A cache that has described a path and has it no more, or another content of it, is no failure that passes.
#[tokio::test(flavor = "multi_thread")]
async fn what_caches_have_lost_is_gone() {
    let narinfo = |facts: &fixture::Facts| format!("{}.narinfo", facts.path.hash_part());
    let (server, facts, _) = serve().await;
    let (files, _) = CacheFiles::of_file(50, b"other", "none");
    let other = Server::start(files).await;
    let caches = caches(&[&server.url]);
    let found = find(&caches, &facts.path).await;
    server.change(|files| drop(files.0.remove(&facts.location)));
    let error = nar_error(pack(&caches, &found).await);
    assert!(matches!(error, NarError::Unavailable { .. }), "it is still described: {error}");
    server.change(|files| drop(files.0.remove(&narinfo(&facts))));
    let error = nar_error(pack(&caches, &found).await);
    assert_eq!(error.gone(), Some(&facts.path), "{error}");
    // Nobody knows whether a cache has it that cannot tell.
    server.fault(&narinfo(&facts), Fault::Status(401, vec![]), usize::MAX);
    let error = nar_error(pack(&caches, &found).await);
    assert!(matches!(error, NarError::Unavailable { .. }), "{error}");
    // Built again, with other bytes.
    let both = self::caches(&[&other.url, &server.url]);
    server.fault(&narinfo(&facts), Fault::Status(404, vec![]), usize::MAX);
    let error = nar_error(pack(&both, &found).await);
    assert_eq!(error.gone(), Some(&facts.path), "{error}");
}

/// A byte now and then is enough from the only cache, but not if another one has the path.
#[tokio::test(flavor = "multi_thread")]
async fn a_trickle_is_left_for_another_cache() {
    let (server, facts, expect) = serve().await;
    let (files, _) = CacheFiles::of_file(50, &noise(3_000_000, 5), "none");
    let other = Server::start(files).await;
    let (patience, nar_of_several) = (Duration::from_millis(200), Duration::from_secs(10));
    let limits = Limits { patience, least_bytes: 1, nar_of_several, ..limits() };
    let caches = caches_with(&[&server.url, &other.url], limits.clone());
    let found = find(&caches, &facts.path).await;
    server.fault(&facts.location, Fault::Drip, usize::MAX);
    assert!(pack(&caches, &found).await.expect("packs") == expect);
    // The only one has more time, and not for ever.
    let nar = Duration::from_secs(10);
    let alone = caches_with(&[&server.url], Limits { nar, ..limits });
    let error = nar_error(pack(&alone, &find(&alone, &facts.path).await).await);
    assert!(error.to_string().contains("too slow"), "{error}");
}

/// The last byte has arrived, and the connection breaks before its end.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_to_resume() {
    let (server, facts, expect) = serve().await;
    let length = facts.file_size.expect("a size");
    server.without_length(&facts.location).fault(&facts.location, Fault::Cut(length), 1);
    let caches = caches(&[&server.url]);
    let found = find(&caches, &facts.path).await;
    assert!(pack(&caches, &found).await.expect("packs") == expect);
    let ranges = server.requests(&facts.location);
    assert_eq!(ranges, [None, Some(format!("bytes={length}-"))]);
}
