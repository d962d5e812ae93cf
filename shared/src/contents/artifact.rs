//! Documents as artifacts of a registry that refer to an image (OCI image spec, "Guidelines for Artifact Usage").

use super::{Contents, DocumentKind};
use crate::{
    image::SmallBlob,
    oci::{
        digest::Digest,
        document::{Descriptor, Document, ImageManifest},
        media_type::{ManifestFormat, OCI_EMPTY},
    },
};
use std::collections::BTreeMap;

/// The config of every artifact, which has none (OCI image spec, "Guidance for an Empty Descriptor").
const EMPTY: &[u8] = b"{}";
/// By which clients that download artifacts know how to name a file (OCI image spec, "annotations.md").
const TITLE: &str = "org.opencontainers.image.title";
/// By which verifiers find the statement that they look for among those of one type.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

/// A document as an artifact. All of its blobs must be stored before clients learn of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its manifest, as lists of referrers have it.
    pub descriptor: Descriptor,
    /// The manifest, the config and the document.
    pub blobs: [SmallBlob; 3],
}

impl Contents<'_> {
    /// The documents about a manifest of the image, each as an artifact that refers to the manifest.
    pub fn artifacts(&self, manifest: &Descriptor) -> [Artifact; 3] {
        DocumentKind::ALL.map(|kind| artifact(kind, self.document(kind, &manifest.digest), manifest))
    }
}

fn artifact(kind: DocumentKind, document: Vec<u8>, subject: &Descriptor) -> Artifact {
    let artifact_type = Some(kind.media_type().to_owned());
    let predicate = (kind == DocumentKind::Provenance)
        .then(|| (PREDICATE_TYPE.to_owned(), super::provenance::PREDICATE_TYPE.to_owned()));
    let annotations: BTreeMap<String, String> = predicate.into_iter().collect();
    let (document, config) = (blob(document), blob(EMPTY.to_vec()));
    let describe =
        |media_type, blob: &SmallBlob| Descriptor::new(media_type, blob.digest, blob.bytes.len() as u64);
    let title = BTreeMap::from([(TITLE.to_owned(), kind.file_name().to_owned())]);
    let layer = Descriptor { annotations: title, ..describe(kind.media_type(), &document) };
    let manifest = Document::Image(ImageManifest {
        format: ManifestFormat::Oci,
        artifact_type: artifact_type.clone(),
        config: describe(OCI_EMPTY, &config),
        layers: vec![layer],
        subject: Some(subject.clone()),
        annotations: annotations.clone(),
    });
    let manifest = blob(manifest.to_bytes());
    let descriptor =
        Descriptor { artifact_type, annotations, ..describe(ManifestFormat::Oci.manifest(), &manifest) };
    Artifact { descriptor, blobs: [manifest, config, document] }
}

fn blob(bytes: Vec<u8>) -> SmallBlob {
    SmallBlob { digest: Digest::of(&bytes), bytes }
}
