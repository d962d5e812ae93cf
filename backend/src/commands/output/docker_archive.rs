//! The tar archive that `docker save` writes and `docker load` reads.

use super::{OutputError, complete, copy_blob, create, error, tree};
use crate::store::{ImageRecord, Store};
use firn_shared::{
    archive::{ImagePath, Kind, Permissions, encode_header, padding},
    oci::document::Document,
};
use std::path::Path;
use tokio::io::AsyncWriteExt;

pub(super) async fn write(
    path: &Path,
    store: &Store,
    image: &ImageRecord,
    tag: &str,
) -> Result<(), OutputError> {
    let (output, mut file) = create(path)?;
    let Some((_, Document::Image(manifest))) = tree(store, image).await?.documents.into_iter().next() else {
        return Err(OutputError::SeveralPlatforms);
    };
    let config = format!("{}.json", manifest.config.digest.hex());
    let layers: Vec<_> =
        manifest.layers.iter().map(|layer| format!("{}.tar.gz", layer.digest.hex())).collect();
    let index = serde_json::json!([{
        "Config": config,
        "RepoTags": [format!("{}:{tag}", image.name)],
        "Layers": layers,
    }])
    .to_string();

    let members = [(&config, &manifest.config)].into_iter().chain(layers.iter().zip(&manifest.layers));
    for (name, blob) in members {
        begin(&mut file, path, name, blob.size).await?;
        copy_blob(store, &blob.digest, &mut file, path).await?;
        end(&mut file, path, blob.size).await?;
    }
    begin(&mut file, path, "manifest.json", index.len() as u64).await?;
    file.write_all(index.as_bytes()).await.map_err(error(path))?;
    end(&mut file, path, index.len() as u64).await?;
    file.write_all(&firn_shared::archive::END).await.map_err(error(path))?;
    complete(output, file, path).await
}

async fn begin(file: &mut tokio::fs::File, path: &Path, name: &str, size: u64) -> Result<(), OutputError> {
    let at = ImagePath::parse(format!("/{name}")).expect("digests make plain file names");
    let mut header = Vec::new();
    encode_header(&at, Permissions::FILE, Kind::File { size }, &mut header);
    file.write_all(&header).await.map_err(error(path))
}

async fn end(file: &mut tokio::fs::File, path: &Path, size: u64) -> Result<(), OutputError> {
    file.write_all(&[0; 512][..padding(size)]).await.map_err(error(path))
}
