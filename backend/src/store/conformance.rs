//! Tests what Firn relies on, for every kind of store that can run here: memory, files, a real S3 server, and
//! emulators of Azure's and Google's storage.
//!
//! Each test checks one property on each kind of store, and has stores of its own. `make unit` leaves out the stores that
//! need servers.

use super::*;
use firn_shared::{cache_key::CacheKey, naming::image_name::ImageName, oci::reference::Tag};
use firn_tests::{
    azurite::{Azurite, CONTAINER},
    gcs::{self, Gcs},
    s3::{BUCKET, S3},
};
use futures::{TryStreamExt, future::join_all};
use object_store::{PutMode, PutOptions, path::Path as Location};
use std::collections::BTreeSet;
use std::io::Write;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

/// A fresh store, and the directory of all its files on this machine.
pub(super) struct Subject {
    pub(super) store: Store,
    pub(super) url: String,
    pub(super) dir: TempDir,
}

/// The servers are shared. Each store is a prefix of its own in the bucket.
fn s3() -> &'static S3 {
    static S3: OnceLock<S3> = OnceLock::new();
    S3.get_or_init(S3::start)
}

fn azurite() -> &'static Azurite {
    static AZURITE: OnceLock<Azurite> = OnceLock::new();
    AZURITE.get_or_init(Azurite::start)
}

fn gcs() -> &'static Gcs {
    static GCS: OnceLock<Gcs> = OnceLock::new();
    GCS.get_or_init(Gcs::start)
}

/// Whether servers are started: yes, unless `FIRN_TEST_SERVERS=none`.
fn with_servers() -> bool {
    std::env::var("FIRN_TEST_SERVERS").as_deref() != Ok("none")
}

/// One fresh store of each kind.
pub(super) fn subjects() -> Vec<Subject> {
    subjects_with(with_servers().then(s3))
}

/// One fresh store of each kind; without a server for S3, of those that need no server.
fn subjects_with(s3: Option<&S3>) -> Vec<Subject> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut kinds = vec!["memory", "file"];
    let mut variables = Variables::default();
    if let Some(s3) = s3 {
        kinds.extend(["s3", "az", "gs"]);
        let servers = s3.environment().into_iter().chain(azurite().environment()).chain(gcs().environment());
        variables.extend(servers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    let subject = |kind: &str| {
        let dir = tempfile::tempdir().expect("a directory");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let url = match kind {
            "file" => format!("file://{}", dir.path().join("storage").display()),
            "s3" => format!("s3://{BUCKET}/{number}"),
            "az" => format!("az://{CONTAINER}/{number}"),
            "gs" => format!("gs://{}/{number}", gcs::BUCKET),
            _ => "memory://".to_owned(),
        };
        let store = Store::open_with(&url, &dir.path().join("staging"), &variables).expect("a store");
        Subject { store, url, dir }
    };
    kinds.into_iter().map(subject).collect()
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 7 % 251) as u8).collect()
}

fn stage(store: &Store, bytes: &[u8]) -> StagedBlob {
    let mut staged = store.stage().expect("a place");
    staged.write_all(bytes).expect("written");
    staged
}

async fn read(store: &Store, digest: &Digest, range: Option<Range<u64>>) -> Option<Vec<u8>> {
    let reader = store.open_blob(digest, range).await.expect("the store works")?;
    let chunks: Vec<_> = reader.bytes.try_collect().await.expect("the blob reads");
    Some(chunks.concat())
}

/// The files below a directory.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return BTreeSet::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { [path].into() }).collect()
}

#[tokio::test]
async fn blobs_appear_whole() {
    const PART: usize = 8 << 20;
    for Subject { store, url, .. } in subjects() {
        for size in [0, 1, 300_000, PART, PART + 1, 2 * PART, 2 * PART + 300_001] {
            let bytes = bytes(size);
            let digest = Digest::of(&bytes);
            assert_eq!(store.blob_size(&digest).await.expect("the store works"), None);
            let staged = stage(&store, &bytes);
            assert_eq!(read(&store, &digest, None).await, None, "{url}: seen before it was committed");
            store.commit(staged, &digest).await.expect("committed");
            assert_eq!(store.blob_size(&digest).await.expect("the store works"), Some(size as u64));
            assert!(read(&store, &digest, None).await.is_some_and(|read| read == bytes), "{url}: {size}");
            let small = store.small_blob(&digest).await.expect("the store works");
            let is_small = size as u64 <= SMALL;
            assert!(small.as_deref() == is_small.then_some(&bytes[..]), "{url}: {size}");
        }
    }
}

#[tokio::test]
async fn ranges_are_exact() {
    for Subject { store, url, .. } in subjects() {
        let bytes = bytes(1_000_000);
        let digest = Digest::of(&bytes);
        store.put_blob(&digest, bytes.clone()).await.expect("stored");
        for range in [0..1, 0..1_000_000, 1..2, 5..300_000, 262_143..262_145, 999_999..1_000_000] {
            let part = read(&store, &digest, Some(range.start as u64..range.end as u64)).await;
            assert!(part.is_some_and(|part| part == bytes[range.clone()]), "{url}: {range:?}");
        }
    }
}

#[tokio::test]
async fn missing_objects_are_none_and_no_error() {
    for Subject { store, .. } in subjects() {
        let digest = Digest::of(b"nobody stored this");
        assert_eq!(store.blob_size(&digest).await.expect("an answer"), None);
        assert_eq!(store.small_blob(&digest).await.expect("an answer"), None);
        assert!(store.open_blob(&digest, None).await.expect("an answer").is_none());
        assert!(store.open_blob(&digest, Some(5..6)).await.expect("an answer").is_none());
        let key = CacheKey::builder("missing").build();
        assert_eq!(store.record::<String>(RecordKind::Image, &key).await.expect("an answer"), None);
        assert!(store.records::<String>(RecordKind::Image).await.expect("an answer").is_empty());
        let name: ImageName = "hello".parse().expect("a name");
        assert!(store.tags(&name).await.expect("an answer").is_empty());
    }
}

#[tokio::test]
async fn a_second_put_replaces_the_first() {
    for Subject { store, .. } in subjects() {
        let key = CacheKey::builder("twice").build();
        for value in ["first", "and then, longer, the second", "3"] {
            store.put_record(RecordKind::Layer, &key, &value).await.expect("written");
            let read = store.record::<String>(RecordKind::Layer, &key).await.expect("read");
            assert_eq!(read.as_deref(), Some(value));
        }
        let bytes = bytes(100_000);
        for _ in 0..2 {
            store.commit(stage(&store, &bytes), &Digest::of(&bytes)).await.expect("committed");
        }
        assert!(read(&store, &Digest::of(&bytes), None).await.is_some_and(|read| read == bytes));
    }
}

#[tokio::test]
async fn stored_objects_are_listed() {
    for Subject { store, url, .. } in subjects() {
        let values: BTreeSet<u32> = (0..30).collect();
        for value in &values {
            let key = CacheKey::builder("listed").field(value.to_le_bytes()).build();
            store.put_record(RecordKind::Package, &key, value).await.expect("written");
        }
        let read: Vec<u32> = store.records(RecordKind::Package).await.expect("read");
        assert_eq!((read.len(), read.into_iter().collect()), (values.len(), values), "{url}");
        assert!(store.records::<u32>(RecordKind::Image).await.expect("read").is_empty());
    }
}

#[tokio::test]
async fn a_conditional_put_writes_once() {
    for Subject { store, url, .. } in subjects() {
        let location = Location::from("claims/a");
        let create = |text: &'static str| {
            store.objects.put_opts(&location, text.into(), PutOptions::from(PutMode::Create))
        };
        create("first").await.expect("the object did not exist");
        let second = create("second").await;
        assert!(matches!(second, Err(object_store::Error::AlreadyExists { .. })), "{url}: {second:?}");
        let read = store.objects.get(&location).await.expect("it is there").bytes().await.expect("read");
        assert_eq!(read, "first");
    }
}

/// A staged blob loses its end, or has another digest, before it is sent.
#[tokio::test]
async fn a_damaged_staged_blob_never_appears() {
    // A server of its own: all unfinished uploads on it are from this test.
    let s3 = with_servers().then(S3::start);
    for size in [300_000, (17 << 20) + 5] {
        for Subject { store, url, .. } in subjects_with(s3.as_ref()) {
            let bytes = bytes(size);
            let digest = Digest::of(&bytes);
            let staged = stage(&store, &bytes);
            staged.file.as_file().set_len(size as u64 - 1).expect("cut");
            store.commit(staged, &digest).await.expect_err("it was cut");
            assert_eq!(store.blob_size(&digest).await.expect("an answer"), None, "{url}");
            if store.files.is_none() {
                let other = Digest::of(b"other bytes");
                let error = store.commit(stage(&store, &bytes), &other).await.expect_err("not its digest");
                assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
                assert_eq!(store.blob_size(&other).await.expect("an answer"), None, "{url}");
            }
        }
    }
    assert_eq!(s3.map_or(0, |s3| s3.unfinished_uploads()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_concurrent_writers_wins() {
    for Subject { store, url, .. } in subjects() {
        let key = CacheKey::builder("contested").build();
        let text = |i: usize| format!("{i:03}").repeat(1000 + i);
        let writers = (0..16).map(|i| {
            let store = store.clone();
            tokio::spawn(async move { store.put_record(RecordKind::Layer, &key, &text(i)).await })
        });
        let writers: Vec<_> = writers.collect();
        let mut seen = false;
        while !(seen && writers.iter().all(tokio::task::JoinHandle::is_finished)) {
            let read = store.record::<String>(RecordKind::Layer, &key).await.expect("an answer");
            let whole = |read: &String| (0..16).any(|i| *read == text(i));
            assert!(read.as_ref().is_none_or(whole), "{url}: a mixture");
            assert!(read.is_some() || !seen, "{url}: gone in between");
            seen = read.is_some();
            tokio::task::yield_now().await;
        }
        for written in join_all(writers).await {
            written.expect("no panic").expect("written");
        }
        let bytes = bytes(9 << 20);
        let digest = Digest::of(&bytes);
        let commits = (0..4).map(|_| store.commit(stage(&store, &bytes), &digest));
        for committed in join_all(commits).await {
            committed.expect("committed");
        }
        assert!(read(&store, &digest, None).await.is_some_and(|read| read == bytes), "{url}");
    }
}

#[tokio::test]
async fn keys_may_be_odd() {
    for Subject { store, url, .. } in subjects() {
        let name: ImageName = "shell/git".parse().expect("a name");
        // The S3 server makes several file names of each key, so longer names are too much for it.
        let long = "x".repeat(80);
        let tags = ["_", "v1.0", "A.-_", "a..b", "0", &long];
        let tags: BTreeSet<Tag> = tags.iter().map(|tag| tag.parse().expect("a tag")).collect();
        for tag in &tags {
            store.note_tag(&name, tag).await.expect("noted");
        }
        let read = store.tags(&name).await.expect("an answer").into_iter().collect::<BTreeSet<_>>();
        assert_eq!(read, tags, "{url}");
        for key in ["odd/with space", "odd/plus+and=", "odd/snö", "odd/100%", "odd/quote'\"", "odd/a&b;c"] {
            let location = Location::from(key);
            store.put(&location, key.as_bytes().to_vec()).await.expect("written");
            let read = store.objects.get(&location).await.expect("it is there").bytes().await;
            assert_eq!(read.expect("read"), key.as_bytes(), "{url}");
        }
    }
}

#[tokio::test]
async fn staging_is_empty_after_the_end() {
    for Subject { store, url, dir } in subjects() {
        store.probe().await.expect("the store works");
        stage(&store, b"never committed");
        store.commit(stage(&store, b"x"), &Digest::of(b"x")).await.expect("committed");
        let staging = store.staging.path().to_owned();
        drop(store);
        assert!(!staging.exists(), "{url}");
        let blobs = files(&dir.path().join("storage"));
        assert_eq!(blobs.len(), usize::from(url.starts_with("file:")), "{blobs:?}");
    }
}
