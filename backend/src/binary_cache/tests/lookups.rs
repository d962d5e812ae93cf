//! What caches say of store paths.

use super::*;
use fixture::{Facts, store_path};
use futures::future::BoxFuture;
use server::Fault;
use std::collections::HashMap;

/// a → b → c, and c refers to itself.
fn chain() -> (CacheFiles, [Facts; 3]) {
    let mut files = CacheFiles::new(40);
    let [a, b, c] = ['a', 'b', 'c'].map(|letter| store_path(letter, "path"));
    let mut add = |path: &StorePath, references: &[StorePath]| {
        files.add(path, &nar::of_file(path.as_str().as_bytes()), "none", references)
    };
    let facts = [
        add(&a, std::slice::from_ref(&b)),
        add(&b, std::slice::from_ref(&c)),
        add(&c, std::slice::from_ref(&c)),
    ];
    (files, facts)
}

async fn closure(caches: &BinaryCaches, root: &StorePath) -> Result<CachedClosure, BinaryCacheError> {
    caches.closure(std::slice::from_ref(root), &NoneKnown, &|_, _| {}).await
}

fn names(closure: &CachedClosure) -> Vec<&str> {
    let mut names: Vec<_> = closure.paths.iter().map(|path| &path.info.path.hash_part()[..1]).collect();
    names.sort_unstable();
    names
}

async fn refusal(files: &CacheFiles, path: &StorePath) -> CacheFailure {
    let server = Server::start(files.clone()).await;
    match closure(&caches(&[&server.url]), path).await {
        Err(BinaryCacheError::Unknown { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn closures_are_followed() {
    let (files, [a, ..]) = chain();
    let server = Server::start(files).await;
    let caches = caches(&[&server.url]);
    let last = std::sync::Mutex::new((0, 0));
    let progress = |done, known| *last.lock().expect("locks") = (done, known);
    let closure =
        caches.closure(&[a.path.clone(), a.path.clone()], &NoneKnown, &progress).await.expect("closed");
    assert_eq!((names(&closure), closure.missing.len()), (vec!["a", "b", "c"], 0));
    assert_eq!(*last.lock().expect("locks"), (3, 3));
    assert_eq!(server.all_requests(), 4, "one a path, and nix-cache-info");
}

#[tokio::test]
async fn what_no_cache_has_is_missing() {
    let (mut files, [a, b, _]) = chain();
    files.0.remove(&format!("{}.narinfo", b.path.hash_part()));
    let server = Server::start(files).await;
    let caches = caches(&[&server.url]);
    let found = closure(&caches, &a.path).await.expect("an answer");
    assert_eq!((names(&found), &found.missing), (vec!["a"], &vec![b.path]));
    assert!(BinaryCaches::new(&[], TrustedKeys::default(), None).expect("none").is_empty());
    // A cache in front of a bucket says 403 of what is not there.
    server.fault(&format!("{}.narinfo", a.path.hash_part()), Fault::Status(403, vec![]), 1);
    assert_eq!(closure(&caches, &a.path).await.expect("an answer").missing, [a.path]);
}

#[tokio::test]
async fn only_trusted_signatures_count() {
    let (files, [.., c]) = chain();
    let changed = |facts: &Facts, signature: Option<&str>| {
        let mut files = files.clone();
        files.say(facts, signature);
        files
    };
    let signature = c.signature();
    let larger = Facts { nar_size: c.nar_size + 1, ..c.clone() };
    let other_hash = Facts { nar_hash: fixture::nar_hash(b"else"), ..c.clone() };
    let more = Facts { references: vec![], ..c.clone() };
    let stranger = signature.replacen("test-1", "other", 1);
    for (facts, signature) in [
        (&c, None),
        (&c, Some("test-1:AAAA")),
        (&c, Some(&*stranger)),
        (&larger, Some(&*signature)),
        (&other_hash, Some(&*signature)),
        (&more, Some(&*signature)),
    ] {
        let files = changed(facts, signature);
        let failure = refusal(&files, &c.path).await;
        assert!(matches!(failure, CacheFailure::Unsigned), "{failure:?}");
        // The operator trusts this cache.
        let server = Server::start(files).await;
        let trusting = caches(&[&format!("{}?trusted=1", server.url)]);
        assert_eq!(names(&closure(&trusting, &c.path).await.expect("trusted")), ["c"]);
    }
    // One good signature among others is enough, and the location is not signed.
    let moved = Facts { location: "elsewhere".into(), file_size: None, ..c.clone() };
    let server = Server::start(changed(&moved, Some(&format!("other:AAAA\nSig: {signature}")))).await;
    let found = find(&caches(&[&server.url]), &c.path).await;
    assert_eq!(found.sources[0].location, "elsewhere");
}

#[tokio::test]
async fn narinfos_must_be_what_was_asked_for() {
    let (mut files, [a, b, _]) = chain();
    files.0.insert(format!("{}.narinfo", a.path.hash_part()), b.narinfo(Some(&b.signature())).into_bytes());
    assert!(matches!(refusal(&files, &a.path).await, CacheFailure::OtherPath(path) if path == b.path));
    for bad in [&b"<html>"[..], b"", b"\xff\xfe"] {
        files.0.insert(format!("{}.narinfo", a.path.hash_part()), bad.to_vec());
        assert!(matches!(refusal(&files, &a.path).await, CacheFailure::Malformed(_)));
    }
    files.0.insert(format!("{}.narinfo", a.path.hash_part()), vec![b'x'; 600 << 10]);
    let failure = refusal(&files, &a.path).await;
    assert!(matches!(failure, CacheFailure::Transport(TransportError::TooLarge(_))), "{failure:?}");
}

#[tokio::test]
async fn a_cache_must_be_one_of_this_store() {
    let (mut files, [a, ..]) = chain();
    files.0.insert("nix-cache-info".into(), b"StoreDir: /gnu/store\n".to_vec());
    assert!(matches!(refusal(&files, &a.path).await, CacheFailure::OtherStore(_)));
    files.0.remove("nix-cache-info");
    assert!(matches!(refusal(&files, &a.path).await, CacheFailure::NoCache));
    // It may have been a mistake, or somebody on the way.
    files.0.insert("nix-cache-info".into(), b"StoreDir: /gnu/store\n".to_vec());
    let server = Server::start(files).await;
    let caches = caches_with(&[&server.url], Limits { aside: Duration::ZERO, ..limits() });
    assert!(closure(&caches, &a.path).await.is_err());
    server.change(|files| drop(files.0.insert("nix-cache-info".into(), b"StoreDir: /nix/store\n".to_vec())));
    assert!(closure(&caches, &a.path).await.is_ok());
}

/// A cache of unknown priority that does not answer delays nobody for long.
#[tokio::test]
async fn priorities_are_not_waited_for() {
    let (files, [a, ..]) = chain();
    let (slow, good) = (Server::start(files.clone()).await, Server::start(files).await);
    slow.fault("nix-cache-info", Fault::Stall(0), usize::MAX);
    let short = Duration::from_millis(10);
    let limits =
        Limits { priority: short, second_opinion: short, small_file: Duration::from_secs(3600), ..limits() };
    let caches = caches_with(&[&good.url, &slow.url], limits);
    for _ in 0..2 {
        assert_eq!(names(&closure(&caches, &a.path).await.expect("closed")), ["a", "b", "c"]);
    }
    assert_eq!(slow.requests("nix-cache-info").len(), 1);
}

/// However long a cache wants to be left alone.
#[tokio::test]
async fn no_cache_is_left_alone_for_ever() {
    let (files, [a, ..]) = chain();
    let server = Server::start(files).await;
    let wait = u64::MAX.to_string();
    server.fault("nix-cache-info", Fault::Status(503, vec![("retry-after", wait)]), 1);
    let longest_aside = Duration::from_millis(10);
    let caches = caches_with(&[&server.url], Limits { longest_aside, ..limits() });
    assert!(closure(&caches, &a.path).await.is_err());
    tokio::time::sleep(2 * longest_aside).await;
    assert!(closure(&caches, &a.path).await.is_ok());
}

/// A cache adds what it likes to a description, but not to what is kept of it.
#[tokio::test]
async fn padding_is_not_kept() {
    let (mut files, [.., c]) = chain();
    let name = format!("{}.narinfo", c.path.hash_part());
    let text = String::from_utf8(files.0[&name].clone()).expect("text");
    let padded = format!("X-Pad: {}\n{text}Sig: test-1:AAAA\n", "a".repeat(400 << 10));
    files.0.insert(name, padded.into_bytes());
    let server = Server::start(files).await;
    let found = find(&caches(&[&server.url]), &c.path).await;
    assert!(found.weight() < 3000, "{} bytes", found.weight());
    let record = serde_json::to_string(&found.record()).expect("a record");
    assert!(record.len() < 1000, "{} bytes", record.len());
    assert!(record.contains(&c.signature()), "{record}");
}

#[tokio::test]
async fn the_cache_of_the_highest_priority_counts() {
    let (files, [_, _, c]) = chain();
    let mut others = CacheFiles::new(30);
    let other = others.add(&c.path, &nar::of_file(b"other"), "none", &[]);
    let (first, second) = (Server::start(files.clone()).await, Server::start(others).await);
    let hash = async |urls: &[&str]| {
        let found = find(&caches(urls), &c.path).await;
        (fixture_hash(&found), found.sources.len())
    };
    // A lower number comes first. The cache that disagrees is no source.
    assert_eq!(hash(&[&first.url, &second.url]).await, (other.nar_hash.clone(), 1));
    assert_eq!(hash(&[&format!("{}?priority=1", first.url), &second.url]).await, (c.nar_hash.clone(), 1));
    let same = Server::start(files).await;
    assert_eq!(hash(&[&same.url, &first.url]).await, (c.nar_hash, 2));
}

fn fixture_hash(found: &CachedPath) -> String {
    let hash = found.info.nar_hash.to_string();
    nix_derivation::NixHash::parse(&hash).expect("a hash").to_nix_nixbase32_string()
}

/// A cache that does not answer is asked again, then left alone; another one has the path.
#[tokio::test]
async fn a_cache_that_fails_is_left_alone() {
    let (files, [a, ..]) = chain();
    let (bad, good) = (Server::start(files.clone()).await, Server::start(files.clone()).await);
    let narinfo = format!("{}.narinfo", a.path.hash_part());
    for fault in
        [Fault::Status(500, vec![]), Fault::Status(503, vec![("retry-after", "1".into())]), Fault::Cut(10)]
    {
        bad.fault(&narinfo, fault.clone(), 1);
        let alone = caches(&[&bad.url]);
        assert_eq!(
            names(&closure(&alone, &a.path).await.expect("asked again")),
            ["a", "b", "c"],
            "{fault:?}"
        );
    }
    bad.fault("nix-cache-info", Fault::Status(500, vec![]), usize::MAX);
    let both = caches(&[&format!("{}?priority=1", bad.url), &good.url]);
    for _ in 0..2 {
        let found = closure(&both, &a.path).await.expect("the other has it");
        assert_eq!(names(&found), ["a", "b", "c"]);
        assert!(found.paths.iter().all(|path| path.sources.len() == 1));
    }
    let asked = bad.requests("nix-cache-info").len();
    // With each of the three caches above once, then three attempts.
    assert_eq!(asked, 3 + 3);
    let error = closure(&both, &store_path('z', "nowhere")).await.expect_err("who knows");
    assert!(error.to_string().contains("cannot tell whether it has"), "{error}");
    // It wants to be left alone for longer than anybody waits.
    let busy = Server::start(files).await;
    busy.fault(&narinfo, Fault::Status(429, vec![("retry-after", "3600".into())]), usize::MAX);
    assert!(closure(&caches(&[&busy.url]), &a.path).await.is_err());
    assert_eq!(busy.requests(&narinfo).len(), 1);
}

/// A slow cache of lower priority delays nobody for long.
#[tokio::test]
async fn second_opinions_are_not_waited_for() {
    let (files, [a, ..]) = chain();
    let (slow, good) = (Server::start(files.clone()).await, Server::start(files).await);
    for letter in ['a', 'b', 'c'] {
        slow.fault(&format!("{}.narinfo", letter.to_string().repeat(32)), Fault::Stall(1), usize::MAX);
    }
    let limits = Limits { second_opinion: Duration::ZERO, small_file: Duration::from_secs(3600), ..limits() };
    let caches = caches_with(&[&good.url, &format!("{}?priority=99", slow.url)], limits);
    assert_eq!(names(&closure(&caches, &a.path).await.expect("closed")), ["a", "b", "c"]);
}

struct Recorded(HashMap<StorePath, CachedPathRecord>);

impl KnownPaths for Recorded {
    fn find<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Option<CachedPathRecord>> {
        Box::pin(std::future::ready(self.0.get(path).cloned()))
    }
}

#[tokio::test]
async fn records_replace_requests() {
    let (files, [a, ..]) = chain();
    let server = Server::start(files).await;
    let first = closure(&caches(&[&server.url]), &a.path).await.expect("closed");
    assert!(first.paths.iter().all(|path| path.is_new));
    let text = |path: &CachedPath| serde_json::to_string(&path.record()).expect("a record");
    let records = first
        .paths
        .iter()
        .map(|path| (path.info.path.clone(), serde_json::from_str(&text(path)).expect("a record")));
    let records = Recorded(records.collect());
    let before = server.all_requests();
    let again = caches(&[&format!("{}?priority=1", server.url)]);
    let second = again.closure(std::slice::from_ref(&a.path), &records, &|_, _| {}).await.expect("closed");
    assert!(second.paths.iter().all(|path| !path.is_new));
    assert_eq!((names(&second), server.all_requests()), (vec!["a", "b", "c"], before));
    // The key is not trusted any more.
    let url: CacheUrl = server.url.parse().expect("a URL");
    let strict = BinaryCaches::with_limits(&[url], TrustedKeys::default(), None, limits()).expect("a client");
    assert!(strict.closure(&[a.path], &records, &|_, _| {}).await.is_err());
}

#[tokio::test]
async fn private_caches_get_passwords() {
    let (files, [a, ..]) = chain();
    let server = Server::start(files).await;
    let netrc: Netrc = "machine 127.0.0.1 login me password secret".parse().expect("a netrc");
    let url = server.url.parse().expect("a URL");
    let keys: TrustedKeys = fixture::public_key().parse().expect("a key");
    let caches = BinaryCaches::with_limits(&[url], keys, Some(&netrc), limits()).expect("a client");
    closure(&caches, &a.path).await.expect("closed");
    let basic = "Basic bWU6c2VjcmV0";
    assert_eq!(server.authorization(), vec![basic; 4]);
    // A redirect to another host gets none.
    let away = Server::start(CacheFiles::default()).await;
    let location = away.url.replace("127.0.0.1", "localhost") + "/x";
    server.fault(
        &format!("{}.narinfo", a.path.hash_part()),
        Fault::Status(302, vec![("location", location)]),
        1,
    );
    assert_eq!(closure(&caches, &a.path).await.expect("an answer").missing, [a.path]);
    assert_eq!((away.all_requests(), away.authorization().len()), (1, 0));
}

/// Stands for what is believed, and for nothing else.
#[tokio::test]
async fn trust_has_a_name() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = fixture::public_key();
    let trust = |urls: &[&str], keys: &str| {
        let urls: Vec<CacheUrl> = urls.iter().map(|url| url.parse().expect("a URL")).collect();
        BinaryCaches::new(&urls, keys.parse().expect("keys"), None).expect("a client").trust()
    };
    let one = trust(&["http://a"], &key);
    assert_eq!((trust(&[], &key), one.is_some()), (None, true));
    assert_eq!(one, trust(&["http://a", "http://b?priority=3"], &format!("{key},{key}")));
    for (urls, keys) in [
        (&["http://a"][..], ""),
        (&["http://a?trusted=1"], &*key),
        (&["http://a", "http://b?trusted=1"], &key),
    ] {
        assert_ne!(one, trust(urls, keys), "{urls:?} {keys}");
    }
}
