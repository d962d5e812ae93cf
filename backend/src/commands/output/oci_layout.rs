//! The OCI image layout (OCI image spec, "image-layout.md").

use super::{Manifest, OutputError, complete, copy_blob, create, error, small_blob};
use crate::store::{ImageRecord, Store};
use firn_shared::{Digest, oci::media_type};
use futures::{StreamExt, TryStreamExt, stream};
use std::{collections::BTreeSet, path::Path};
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
    let manifest: Manifest = serde_json::from_slice(&small_blob(store, &image.oci.digest).await?)?;
    let layers = manifest.layers.iter().map(|layer| layer.digest);
    // A set, in case two layers have the same bytes.
    let digests: BTreeSet<Digest> = layers.chain([manifest.config.digest, image.oci.digest]).collect();
    let writing: Vec<_> = digests.into_iter().map(|digest| write_blob(&blobs, store, digest)).collect();
    stream::iter(writing).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": [{
            "mediaType": media_type::OCI_MANIFEST,
            "digest": image.oci.digest,
            "size": image.oci.size,
            "annotations": { "org.opencontainers.image.ref.name": tag },
        }],
    });
    for (name, json) in
        [("oci-layout", serde_json::json!({ "imageLayoutVersion": "1.0.0" })), ("index.json", index)]
    {
        let path = dir.join(name);
        let (output, mut file) = create(&path)?;
        file.write_all(json.to_string().as_bytes()).await.map_err(error(&path))?;
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
