use super::*;
use crate::store::{RecordKind, Store};
use firn_shared::{
    cache_key::CacheKey,
    image::FORMAT,
    oci::{
        document::{Document, ImageIndex, ImageManifest},
        media_type::LayerCompression,
    },
};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// A store of files in which everything was written long ago.
pub(crate) struct OldStore {
    pub(crate) store: Store,
    dir: TempDir,
}

impl OldStore {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}", dir.path().join("storage").display());
        let store = Store::open(&url, &dir.path().join("staging")).expect("a store");
        Self { store, dir }
    }

    /// The one that Firn wrote for the image `greeting` before records had a list of documents.
    pub(crate) fn before_documents() -> Self {
        let old = Self::new();
        let saved = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/store-before-documents");
        copy(&saved, &old.dir.path().join("storage"));
        old.age();
        old
    }

    /// Everything in it was written a hundred days ago.
    pub(crate) fn age(&self) {
        let then = SystemTime::now() - Duration::from_secs(100 * 24 * 3600);
        for file in files(&self.dir.path().join("storage")) {
            File::options().write(true).open(file).and_then(|file| file.set_modified(then)).expect("it ages");
        }
    }

    /// Where a blob is.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.path().join("storage").join(firn_shared::link::object_key::blob_key(digest))
    }
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let to = to.join(file.strip_prefix(from).expect("below it"));
        std::fs::create_dir_all(to.parent().expect("a directory")).expect("the directory");
        std::fs::copy(file, to).expect("copied");
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// An image of two platforms: an index, two manifests, and what they refer to, of which they share a layer.
pub(crate) struct IndexImage {
    pub(crate) key: CacheKey,
    pub(crate) record: ImageRecord,
    /// The manifests in the index.
    pub(crate) manifests: Vec<Digest>,
    /// Two configs, a layer of each platform, and the one that they share.
    pub(crate) blobs: Vec<Digest>,
}

impl IndexImage {
    /// Everything of it.
    pub(crate) fn digests(&self) -> Vec<Digest> {
        [&[self.record.digest()], &self.manifests[..], &self.blobs[..]].concat()
    }

    /// Stores it, in the order in which builds store images.
    pub(crate) async fn stored(store: &Store) -> Self {
        let put = async |bytes: Vec<u8>| {
            let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
            store.put_blob(&digest, bytes).await.expect("stored");
            (digest, size)
        };
        let layer_type = ManifestFormat::Oci.layer(LayerCompression::Gzip).expect("OCI has one");
        let layer = async |text: &str| {
            let (digest, size) = put(text.into()).await;
            Descriptor::new(layer_type, digest, size)
        };
        let shared = layer("shared layer").await;
        let (mut documents, mut blobs) = (Vec::new(), vec![shared.digest]);
        for platform in [Platform::Amd64, Platform::Arm64] {
            let own = layer(&format!("layer of {platform}")).await;
            let config = put(format!("config of {platform}").into()).await;
            blobs.extend([own.digest, config.0]);
            let layers = vec![shared.clone(), own];
            let manifest = ImageManifest::new(ManifestFormat::Oci, config, layers, BTreeMap::new());
            let (digest, size) = put(Document::Image(manifest).to_bytes()).await;
            let platform = Some(platform.into());
            let media_type = ManifestFormat::Oci.manifest();
            documents.push(Descriptor { platform, ..Descriptor::new(media_type, digest, size) });
        }
        let manifests = documents.iter().map(|document| document.digest).collect();
        let index = Document::Index(ImageIndex::new(ManifestFormat::Oci, documents));
        let (digest, size) = put(index.to_bytes()).await;
        let revision = Revision::Path { content: "c0ffee".into() };
        let documents = vec![Descriptor::new(index.media_type(), digest, size)];
        let record = ImageRecord::new("git".into(), revision, None, recipe(), documents).expect("an index");
        let key = CacheKey::builder("test").build();
        store.put_record(RecordKind::Image, &key, &record).await.expect("stored");
        Self { key, record, manifests, blobs }
    }
}

fn recipe() -> ImageRecipe {
    ImageRecipe {
        format: FORMAT,
        strategy: "test".into(),
        layer_budget: 94,
        encoding: LayerEncoding { compression: LayerCompression::Gzip, identity: "test".into() },
        allow_unfree: false,
    }
}

#[tokio::test]
async fn records_of_the_format_before_are_read() {
    let old = OldStore::before_documents();
    let records: Vec<ImageRecord> = old.store.records(RecordKind::Image).await.expect("they are read");
    let [record] = &records[..] else { panic!("one image, not {records:?}") };
    assert_eq!(record.name, "greeting");
    assert_eq!((&record.platform, &record.recipe, record.conflicts.len()), (&None, &None, 0));
    let digest = |text: &str| text.parse::<Digest>().expect("a digest");
    let oci = digest("sha256:eaf746b1ecb668f99e028761d3179ba02b22f60c724747ac18429c3ebe5fdebf");
    let docker = digest("sha256:199c9bc1b5a68726bf1f2aa5dde733612de21bd38c33643db5091bc169c1213b");
    assert_eq!(record.digest(), oci);
    let document = |format| record.document(format).expect("a document").clone();
    assert_eq!(document(ManifestFormat::Oci), Descriptor::new(OCI_MANIFEST, oci, 817));
    assert_eq!(document(ManifestFormat::Docker), Descriptor::new(DOCKER_MANIFEST, docker, 583));
    assert_eq!(record.documents().len(), 2);
    // What is written of it now is read as the same.
    let key = CacheKey::builder("test").build();
    old.store.put_record(RecordKind::Image, &key, record).await.expect("written");
    let again = old.store.record::<ImageRecord>(RecordKind::Image, &key).await.expect("read");
    assert_eq!(again.as_ref(), Some(record));
}

#[test]
fn the_name_says_the_platform_of_a_record_of_before() {
    let json = serde_json::json!({
        "name": "arm64/git",
        "revision": { "type": "path", "content": "00" },
        "oci": { "digest": Digest::of(b""), "size": 1 },
        "docker": null,
        "conflicts": ["bin/git"],
    });
    let record: ImageRecord = serde_json::from_value(json).expect("a record");
    assert_eq!(record.platform, Some(Platform::Arm64));
    assert_eq!(record.document(ManifestFormat::Docker), None);
    assert_eq!(record.conflicts, ["bin/git"]);
}

#[tokio::test]
async fn records_are_read_as_they_are_written() {
    let old = OldStore::new();
    let image = IndexImage::stored(&old.store).await;
    let read = old.store.record::<ImageRecord>(RecordKind::Image, &image.key).await.expect("read");
    assert_eq!(read.as_ref(), Some(&image.record));
    assert_eq!(image.record.document(ManifestFormat::Oci), image.record.documents().first());
}

#[test]
fn an_image_is_documents() {
    let new = |documents| {
        let revision = Revision::Path { content: "00".into() };
        ImageRecord::new("git".into(), revision, Some(Platform::Amd64), recipe(), documents)
    };
    let layer = Descriptor::new("application/vnd.oci.image.layer.v1.tar+gzip", Digest::of(b""), 0);
    let manifest = Descriptor::new(OCI_MANIFEST, Digest::of(b""), 0);
    assert_eq!(new(Vec::new()), Err(ImageRecordError::NoDocument));
    assert_eq!(
        new(vec![manifest.clone(), layer.clone()]),
        Err(ImageRecordError::MediaType(layer.media_type))
    );
    let record = new(vec![manifest]).expect("a manifest");
    let mut json = serde_json::to_value(&record).expect("JSON");
    assert_eq!(serde_json::from_value::<ImageRecord>(json.clone()).expect("the record"), record);
    json["documents"] = serde_json::json!([]);
    assert!(serde_json::from_value::<ImageRecord>(json).is_err());
}
