//! Image manifests (OCI image spec, "manifest.md"), and the same in Docker's media types.
//!
//! Written by hand for the same reason as the config: `oci-spec` has annotations in random order.

use crate::oci::{digest::Digest, media_type::ManifestFormat};
use serde::Serialize;
use std::collections::BTreeMap;

/// What a manifest says of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: &'static str,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// An image manifest, as the spec's JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u8,
    /// What this is; answers carry the same as `Content-Type` (CVE-2021-41190).
    pub media_type: &'static str,
    /// The config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Facts about the image; Docker's format has none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// A manifest in this format.
    pub fn new(
        format: ManifestFormat,
        config: (Digest, u64),
        layers: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Self {
        Self {
            schema_version: 2,
            media_type: format.manifest(),
            config: Descriptor { media_type: format.config(), digest: config.0, size: config.1 },
            layers,
            annotations: match format {
                ManifestFormat::Oci => annotations,
                ManifestFormat::Docker => BTreeMap::new(),
            },
        }
    }
}
