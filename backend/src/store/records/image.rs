//! What is kept of an image that was built.

use firn_shared::{Digest, naming::package_source::Revision};
use serde::{Deserialize, Serialize};

/// A finished image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Its name in canonical form.
    pub name: String,
    /// The package set that it is from.
    pub revision: Revision,
    /// Its OCI manifest.
    pub oci: ManifestRecord,
    /// The same in Docker's media types, where they can express it.
    pub docker: Option<ManifestRecord>,
    /// Paths, sorted, of which at least one package's file is not shown: another package has it, or it is the image's
    /// own.
    pub conflicts: Vec<String>,
}

/// A stored manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecord {
    /// Its digest.
    pub digest: Digest,
    /// Its size, in bytes.
    pub size: u64,
}
