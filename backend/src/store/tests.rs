use super::conformance::{Subject, subjects};
use super::*;
use firn_shared::cache_key::CacheKey;

#[tokio::test]
async fn records_check_themselves() {
    for Subject { store, .. } in subjects() {
        let key = CacheKey::builder("test").build();
        let kind = RecordKind::Layer;
        assert_eq!(store.record::<String>(kind, &key).await.expect("the store works"), None);
        store.put_record(kind, &key, &"hello").await.expect("written");
        assert_eq!(store.record(kind, &key).await.expect("read"), Some("hello".to_owned()));
        assert_eq!(store.record::<u64>(kind, &key).await.expect("read"), None, "of another shape");
    }
}

#[tokio::test]
async fn probing_finds_what_is_in_the_way() {
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
