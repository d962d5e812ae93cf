use super::*;
use firn_shared::{Digest, cache_key::CacheKey};
use futures::TryStreamExt;
use std::io::Write;

/// Every store that can be had here, each fresh.
fn stores() -> Vec<(Store, tempfile::TempDir)> {
    ["file", "memory"]
        .into_iter()
        .map(|kind| {
            let dir = tempfile::tempdir().expect("a directory");
            let url = match kind {
                "file" => format!("file://{}", dir.path().join("storage").display()),
                _ => "memory://".to_owned(),
            };
            (Store::open(&url, &dir.path().join("staging")).expect("a store"), dir)
        })
        .collect()
}

async fn read(store: &Store, digest: &Digest, range: Option<std::ops::Range<u64>>) -> Option<Vec<u8>> {
    let reader = store.open_blob(digest, range).await.expect("the store works")?;
    let chunks: Vec<_> = reader.bytes.try_collect().await.expect("the blob reads");
    Some(chunks.concat())
}

#[tokio::test]
async fn blobs_appear_whole() {
    for (store, dir) in stores() {
        for size in [0, 1, 300_000, 8 << 20, (17 << 20) + 5] {
            let bytes: Vec<u8> = (0..size).map(|i: u32| (i * 7 % 251) as u8).collect();
            let digest = Digest::of(&bytes);
            assert_eq!(store.blob_size(&digest).await.expect("the store works"), None);
            let mut staged = store.stage().expect("a place");
            staged.write_all(&bytes).expect("written");
            assert_eq!(read(&store, &digest, None).await, None);
            store.commit(staged, &digest).await.expect("committed");
            assert_eq!(store.blob_size(&digest).await.expect("the store works"), Some(u64::from(size)));
            assert!(read(&store, &digest, None).await.is_some_and(|read| read == bytes), "{size} bytes");
            if size > 1 {
                assert_eq!(read(&store, &digest, Some(1..2)).await, Some(bytes[1..2].to_vec()));
            }
        }
        drop(store);
        let left = std::fs::read_dir(dir.path().join("staging")).expect("the directory").count();
        assert_eq!(left, 0, "nothing is left of what was staged");
    }
}

#[tokio::test]
async fn records_check_themselves() {
    for (store, _dir) in stores() {
        let key = CacheKey::builder("test").build();
        let kind = RecordKind::Layer;
        assert_eq!(store.record::<String>(kind, &key).await.expect("the store works"), None);
        store.put_record(kind, &key, &"hello").await.expect("written");
        assert_eq!(store.record(kind, &key).await.expect("read"), Some("hello".to_owned()));
        assert_eq!(store.record::<u64>(kind, &key).await.expect("read"), None, "of another shape");
    }
}

#[tokio::test]
async fn probing_leaves_nothing_behind() {
    for (store, dir) in stores() {
        store.probe().await.expect("the store works");
        let probes = dir.path().join("storage/probes");
        assert!(std::fs::read_dir(probes).map_or(0, Iterator::count) == 0);
    }
    let dir = tempfile::tempdir().expect("a directory");
    let storage = dir.path().join("storage");
    let url = format!("file://{}", storage.display());
    let store = Store::open(&url, &dir.path().join("staging")).expect("a store");
    std::fs::remove_dir_all(&storage).expect("removed");
    std::fs::write(&storage, "in the way").expect("written");
    store.probe().await.expect_err("there is no directory");
}

#[tokio::test]
async fn large_kinds_of_records_are_compressed() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}", dir.path().join("storage").display());
    let store = Store::open(&url, &dir.path().join("staging")).expect("a store");
    let key = CacheKey::builder("test").build();
    let names = vec!["python3Packages"; 10_000];
    store.put_record(RecordKind::Names, &key, &names).await.expect("written");
    let read: Option<Vec<String>> = store.record(RecordKind::Names, &key).await.expect("read");
    assert_eq!(read.as_deref(), Some(&vec!["python3Packages".to_owned(); 10_000][..]));
    let name = key.to_string();
    let file = dir.path().join("storage/names").join(&name[..2]).join(&name);
    let size = std::fs::metadata(&file).expect("the record").len();
    assert!(size < 10_000, "{size} bytes");
    let whole = std::fs::read(&file).expect("the record");
    std::fs::write(&file, &whole[..whole.len() - 1]).expect("torn");
    assert_eq!(store.record::<Vec<String>>(RecordKind::Names, &key).await.expect("read"), None);
}

#[tokio::test]
async fn torn_records_are_ignored() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}", dir.path().join("storage").display());
    let store = Store::open(&url, &dir.path().join("staging")).expect("a store");
    let key = CacheKey::builder("test").build();
    store.put_record(RecordKind::Image, &key, &vec![1, 2, 3]).await.expect("written");
    let name = key.to_string();
    let file = dir.path().join("storage/images").join(&name[..2]).join(&name);
    let whole = std::fs::read(&file).expect("the record");
    for cut in 0..whole.len() {
        std::fs::write(&file, &whole[..cut]).expect("torn");
        let record = store.record::<Vec<u8>>(RecordKind::Image, &key).await.expect("read");
        assert_eq!(record, None, "cut at {cut}");
    }
}

#[test]
fn refuses_urls_it_does_not_know() {
    let dir = tempfile::tempdir().expect("a directory");
    for url in ["", "ftp://x", "file://relative", "/plain"] {
        assert!(matches!(Store::open(url, &dir.path().join("staging")), Err(StoreError::Url(_))), "{url}");
    }
}
