use super::*;
use crate::store::RecordKind;
use crate::store::recorded_images::{IndexImage, OldStore};

#[tokio::test]
async fn an_image_with_an_old_record_is_complete() {
    let old = OldStore::before_documents();
    let records: Vec<ImageRecord> = old.store.records(RecordKind::Image).await.expect("read");
    let [record] = &records[..] else { panic!("one image, not {records:?}") };
    let damage = damage(&old.store, record).await.expect("the store works");
    assert!(damage.is_none(), "{damage:?}");
}

/// Whatever is missing of an image of several platforms is missed.
#[tokio::test]
async fn an_index_is_complete_with_all_that_it_refers_to() {
    let old = OldStore::new();
    let image = IndexImage::stored(&old.store).await;
    let damage = async || damage(&old.store, &image.record).await.expect("the store works");
    assert!(damage().await.is_none());
    for digest in image.digests() {
        let (file, aside) = (old.blob(&digest), old.blob(&Digest::of(b"aside")));
        std::fs::create_dir_all(aside.parent().expect("a directory")).expect("the directory");
        std::fs::rename(&file, &aside).expect("it was there");
        let found = damage().await.expect("something is missing");
        let missing = match (image.blobs.contains(&digest), &found) {
            (true, Damage::Missing(missing)) | (false, Damage::Manifest(missing)) => *missing,
            (_, other) => panic!("{other}"),
        };
        assert_eq!(missing, digest);
        std::fs::rename(&aside, &file).expect("put back");
        assert!(damage().await.is_none());
    }
    let (layer, config) = (image.blobs[1], image.blobs[2]);
    let whole = std::fs::read(old.blob(&layer)).expect("it is there");
    std::fs::write(old.blob(&layer), &whole[1..]).expect("damaged");
    assert!(matches!(damage().await, Some(Damage::Size { digest, .. }) if digest == layer));
    std::fs::write(old.blob(&layer), whole).expect("put back");
    // Configs are small enough to be read.
    let mut corrupt = std::fs::read(old.blob(&config)).expect("it is there");
    corrupt[0] ^= 1;
    std::fs::write(old.blob(&config), corrupt).expect("damaged");
    assert!(matches!(damage().await, Some(Damage::Missing(digest)) if digest == config));
}
