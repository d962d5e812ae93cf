//! The OCI image layout (OCI image spec, "image-layout.md").

use super::{OutputError, complete, copy_blob, create, error, tree};
use crate::store::{ImageRecord, Store};
use firn_shared::{
    Digest,
    oci::{
        document::{Descriptor, Document, ImageIndex},
        media_type::ManifestFormat,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use std::path::Path;
use tokio::io::AsyncWriteExt;

/// How many blobs are written at once. Syncing several costs a disk little more than syncing one.
const AT_ONCE: usize = 16;

/// Writes the blobs first, and the index that refers to them last. Blobs that exist already are not written again.
pub(super) async fn write(
    dir: &Path,
    store: &Store,
    image: &ImageRecord,
    tag: &str,
) -> Result<(), OutputError> {
    let blobs = dir.join("blobs/sha256");
    tokio::fs::create_dir_all(&blobs).await.map_err(error(&blobs))?;
    let tree = tree(store, image).await?;
    let writing: Vec<_> = tree.digests().map(|digest| write_blob(&blobs, store, digest)).collect();
    stream::iter(writing).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let tagged = tree.documents.into_iter().take(1).map(|(descriptor, _)| Descriptor {
        annotations: [("org.opencontainers.image.ref.name".to_owned(), tag.to_owned())].into(),
        ..descriptor
    });
    let index = Document::Index(ImageIndex::new(ManifestFormat::Oci, tagged.collect())).to_bytes();
    let version = serde_json::json!({ "imageLayoutVersion": "1.0.0" }).to_string().into_bytes();
    for (name, json) in [("oci-layout", version), ("index.json", index)] {
        let path = dir.join(name);
        let (output, mut file) = create(&path)?;
        file.write_all(&json).await.map_err(error(&path))?;
        complete(output, file, &path).await?;
    }
    Ok(())
}

async fn write_blob(blobs: &Path, store: &Store, digest: Digest) -> Result<(), OutputError> {
    let path = blobs.join(digest.hex());
    if tokio::fs::try_exists(&path).await.map_err(error(&path))? {
        return Ok(());
    }
    let (output, mut file) = create(&path)?;
    copy_blob(store, &digest, &mut file, &path).await?;
    complete(output, file, &path).await
}
