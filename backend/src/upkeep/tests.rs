//! Images of every kind of documents, as collection and checking see them.

use super::{Collection, FsckReport, Problem, RemovalReason, check, collect};
use crate::config::RetentionPolicy;
use crate::store::recorded_images::{IndexImage, OldStore};
use firn_shared::{Digest, cache_key::CacheKey};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn gc(old: &OldStore, unused: Duration, dry_run: bool) -> Collection {
    let policy = RetentionPolicy { budget: None, unused, age: None, grace: Duration::from_secs(3600) };
    collect(&old.store, &policy, dry_run).await.expect("the store works").expect("nobody else collects")
}

/// Collects until nothing more goes, as if the grace period passed between two collections.
async fn gc_all(old: &OldStore, unused: Duration) -> usize {
    let mut images = 0;
    for _ in 0..2 {
        images += gc(old, unused, false).await.images.len();
        let at_once = RetentionPolicy { budget: None, unused, age: None, grace: Duration::ZERO };
        collect(&old.store, &at_once, false).await.expect("the store works").expect("nobody else collects");
    }
    images
}

async fn fsck(old: &OldStore, repair: bool) -> FsckReport {
    check(&old.store, repair, |_, _| {}).await.expect("the store works")
}

async fn stray(old: &OldStore) -> Digest {
    let digest = Digest::of(b"stray");
    old.store.put_blob(&digest, b"stray".to_vec()).await.expect("stored");
    digest
}

#[tokio::test]
async fn gc_keeps_all_that_an_index_refers_to() {
    let old = OldStore::new();
    let (image, stray) = (IndexImage::stored(&old.store).await, stray(&old).await);
    old.age();
    assert_eq!(gc_all(&old, 1000 * DAY).await, 0);
    assert!(!old.blob(&stray).exists(), "what belongs to nobody goes");
    for digest in image.digests() {
        assert!(old.blob(&digest).exists(), "{digest} belongs to an image");
    }
    assert_eq!(fsck(&old, false).await.findings, []);
    // It goes as a whole, for its age and not because it could not be read.
    old.age();
    let removals = gc(&old, DAY, false).await.images;
    let [removal] = &removals[..] else { panic!("one image goes, not {removals:?}") };
    assert_eq!((removal.name.as_str(), removal.reason), ("git", RemovalReason::Unused));
    gc_all(&old, DAY).await;
    for digest in image.digests() {
        assert!(!old.blob(&digest).exists(), "{digest} belongs to nobody any more");
    }
}

/// Clients that know a platform's manifest by its digest ask for nothing else.
#[tokio::test]
async fn pulls_of_a_manifest_in_an_index_are_pulls_of_the_image() {
    let old = OldStore::new();
    let image = IndexImage::stored(&old.store).await;
    old.age();
    assert_eq!(gc(&old, DAY, true).await.images.len(), 1);
    let manifest = image.manifests.last().expect("a manifest");
    old.store.note_pull(&CacheKey::from_bytes(*manifest.as_bytes()));
    assert_eq!(gc(&old, DAY, true).await.images, [], "it is being pulled");
    old.store.write_pulls().await.expect("written");
    assert_eq!(gc(&old, DAY, false).await.images, [], "it was pulled");
    // The note is kept as long as the image is.
    assert_eq!(gc(&old, DAY, false).await.images, []);
}

#[tokio::test]
async fn fsck_follows_an_index() {
    let old = OldStore::new();
    let image = IndexImage::stored(&old.store).await;
    assert_eq!(fsck(&old, false).await.findings, []);
    for digest in image.digests() {
        let whole = std::fs::read(old.blob(&digest)).expect("it is there");
        let mut corrupt = whole.clone();
        corrupt[0] ^= 1;
        for damaged in [None, Some(corrupt), Some(whole[1..].to_vec())] {
            match &damaged {
                None => std::fs::remove_file(old.blob(&digest)),
                Some(bytes) => std::fs::write(old.blob(&digest), bytes),
            }
            .expect("damaged");
            let findings = fsck(&old, false).await.findings;
            let incomplete: Vec<_> =
                findings.iter().filter(|finding| finding.problem == Problem::IncompleteImage).collect();
            let [finding] = &incomplete[..] else { panic!("{findings:?}") };
            assert!(finding.detail.starts_with("git: ") && finding.detail.contains(&digest.to_string()));
            assert_eq!(findings.len(), 1 + usize::from(damaged.is_some()), "{findings:?}");
            assert_eq!(old.blob(&digest).exists(), damaged.is_some(), "nothing is moved");
        }
        std::fs::write(old.blob(&digest), whole).expect("put back");
    }
    assert_eq!(fsck(&old, false).await.findings, []);
    std::fs::remove_file(old.blob(&image.manifests[0])).expect("removed");
    assert_eq!(fsck(&old, true).await.findings.len(), 1);
    assert_eq!(fsck(&old, false).await.findings, [], "the record is gone");
}

#[tokio::test]
async fn gc_keeps_images_with_old_records() {
    let old = OldStore::before_documents();
    let stray = stray(&old).await;
    let before = fsck(&old, false).await;
    assert_eq!((before.blobs, &before.findings[..]), (6, &[][..]));
    old.age();
    assert_eq!(gc_all(&old, 1000 * DAY).await, 0);
    let after = fsck(&old, false).await;
    assert_eq!((after.blobs, &after.findings[..]), (5, &[][..]), "{stray} went, and nothing else");
    assert_eq!(after.records, before.records, "the image's packages are known as before");
    old.age();
    let removals = gc(&old, DAY, false).await.images;
    assert_eq!(removals.iter().map(|removal| removal.reason).collect::<Vec<_>>(), [RemovalReason::Unused]);
}
