//! What is recorded of a finished image.

use firn_shared::{
    Digest,
    image::layer::LayerEncoding,
    naming::{image_name::ImageName, package_source::Revision},
    oci::{
        document::Descriptor,
        media_type::{DOCKER_MANIFEST, ManifestFormat, OCI_MANIFEST, of_document},
        platform::Platform,
    },
};
use serde::{Deserialize, Serialize};

/// A finished image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SavedRecord")]
pub struct ImageRecord {
    /// Its name in canonical form.
    pub name: String,
    /// The package set that it is from.
    pub revision: Revision,
    /// The platform that it is for. None for an image of several, and where a record of the format before does not say.
    pub platform: Option<Platform>,
    /// How it was made. None in records of the format before.
    pub recipe: Option<ImageRecipe>,
    /// Never empty, and of documents' media types alone.
    documents: Vec<Descriptor>,
    /// Paths, sorted, of which at least one package's file is not shown: another package has it, or it is the image's
    /// own.
    pub conflicts: Vec<String>,
}

/// How an image was made: all that its bytes depend on, but for its name, its platform and its package set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecipe {
    /// [`firn_shared::image::FORMAT`] at that time.
    pub format: u32,
    /// The layering strategy in its version, with its data.
    pub strategy: String,
    /// How many layers it may have, without the one of symlinks.
    pub layer_budget: usize,
    /// How its layers are encoded.
    pub encoding: LayerEncoding,
    /// Whether it may have packages with unfree licences.
    pub allow_unfree: bool,
}

/// Why something is no record of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageRecordError {
    /// There is nothing to serve.
    #[error("an image has at least one document")]
    NoDocument,
    /// One of its documents is something else.
    #[error("{0:?} is not the media type of a manifest or an index")]
    MediaType(String),
}

impl ImageRecord {
    /// The record of an image made by a recipe for a platform, without conflicts.
    ///
    /// # Errors
    /// When there is no document, or one is neither a manifest nor an index.
    pub fn new(
        name: String,
        revision: Revision,
        platform: Option<Platform>,
        recipe: ImageRecipe,
        documents: Vec<Descriptor>,
    ) -> Result<Self, ImageRecordError> {
        let documents = checked(documents)?;
        Ok(Self { name, revision, platform, recipe: Some(recipe), documents, conflicts: Vec::new() })
    }

    /// What it can be pulled as: the OCI document, which is the first, and the same in Docker's media types, where they
    /// can express it. All else that belongs to the image is found by following them.
    pub fn documents(&self) -> &[Descriptor] {
        &self.documents
    }

    /// The digest of the first document, which people know the image by.
    pub fn digest(&self) -> Digest {
        self.documents.first().expect("never empty").digest
    }

    /// The document in this format.
    pub fn document(&self, format: ManifestFormat) -> Option<&Descriptor> {
        let of_format = [format.manifest(), format.index()];
        self.documents.iter().find(|document| of_format.contains(&document.media_type.as_str()))
    }
}

fn checked(documents: Vec<Descriptor>) -> Result<Vec<Descriptor>, ImageRecordError> {
    if documents.is_empty() {
        return Err(ImageRecordError::NoDocument);
    }
    match documents.iter().find(|document| of_document(&document.media_type).is_none()) {
        Some(other) => Err(ImageRecordError::MediaType(other.media_type.clone())),
        None => Ok(documents),
    }
}

/// A record as it is stored, in this format or in the one before, which knew an OCI manifest and perhaps a Docker one.
#[derive(Deserialize)]
struct SavedRecord {
    name: String,
    revision: Revision,
    platform: Option<Platform>,
    recipe: Option<ImageRecipe>,
    documents: Option<Vec<Descriptor>>,
    oci: Option<SavedManifest>,
    docker: Option<SavedManifest>,
    conflicts: Vec<String>,
}

/// A manifest in the format before.
#[derive(Deserialize)]
struct SavedManifest {
    digest: Digest,
    size: u64,
}

impl TryFrom<SavedRecord> for ImageRecord {
    type Error = ImageRecordError;

    fn try_from(saved: SavedRecord) -> Result<Self, Self::Error> {
        let SavedRecord { name, revision, platform, recipe, documents, oci, docker, conflicts } = saved;
        let (platform, documents) = match documents {
            Some(documents) => (platform, documents),
            None => {
                let manifests = [(oci, OCI_MANIFEST), (docker, DOCKER_MANIFEST)].into_iter();
                let manifests = manifests.filter_map(|(manifest, media_type)| {
                    let SavedManifest { digest, size } = manifest?;
                    Some(Descriptor::new(media_type, digest, size))
                });
                let named = name.parse().ok().and_then(|name: ImageName| name.platform());
                (named, manifests.collect())
            }
        };
        Ok(Self { name, revision, platform, recipe, documents: checked(documents)?, conflicts })
    }
}

#[cfg(test)]
pub(crate) mod tests;
