//! The OCI image layout (OCI image spec, "image-layout.md").

use super::{Manifest, OutputError, copy_blob, error, small_blob};
use crate::{build::ImageRecord, store::Store};
use firn_shared::media_type;
use std::path::Path;

/// Writes blobs first, the index that refers to them last. Blobs that are there already are not written again.
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
    for digest in layers.chain([manifest.config.digest, image.oci.digest]) {
        let path = blobs.join(digest.hex());
        if tokio::fs::try_exists(&path).await.map_err(error(&path))? {
            continue;
        }
        let part = path.with_extension("part");
        let mut file = tokio::fs::File::create(&part).await.map_err(error(&part))?;
        copy_blob(store, &digest, &mut file, &part).await?;
        file.sync_all().await.map_err(error(&part))?;
        tokio::fs::rename(&part, &path).await.map_err(error(&path))?;
    }
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
        let part = path.with_extension("part");
        tokio::fs::write(&part, json.to_string()).await.map_err(error(&part))?;
        tokio::fs::rename(&part, &path).await.map_err(error(&path))?;
    }
    Ok(())
}
