//! A manifest that has been verified: its bytes have its digest.

use crate::clock;
use firn_shared::{
    link::{edge_cache::ManifestMetadata, protocol::ImageSetId},
    oci::{
        digest::Digest,
        document::{Document, ParseDocumentError},
    },
};
use worker::js_sys::{ArrayBuffer, Uint8Array};

/// A manifest whose bytes have the digest that stands beside them.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    /// With the runtime, which reads and writes them; nobody changes them.
    pub(crate) bytes: ArrayBuffer,
    pub(crate) metadata: ManifestMetadata,
}

/// A manifest from the backend, with the package set that it is from.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) manifest: Manifest,
    pub(crate) package_set: Option<ImageSetId>,
    /// When the backend was asked, in seconds since 1970.
    pub(crate) asked: u64,
}

/// What the backend says of the bytes it sends.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    pub(crate) digest: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) content_length: Option<String>,
    pub(crate) revision: Option<String>,
    pub(crate) package_set: Option<String>,
}

/// Why bytes are not the manifest that they are said to be. For the log: clients hear that the backend is
/// out of order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error("no valid Docker-Content-Digest")]
    NoDigest,
    #[error("the bytes have digest {actual}, not {claimed}")]
    Digest { claimed: Digest, actual: Digest },
    #[error("{actual} bytes instead of {claimed}")]
    Length { claimed: String, actual: usize },
    #[error("content type {0:?} is not the mediaType in the manifest")]
    ContentType(String),
    #[error("no manifest")]
    Document(#[from] ParseDocumentError),
}

impl Manifest {
    /// What it says.
    ///
    /// # Errors
    /// When it is a document that this version does not read.
    pub(crate) fn document(&self) -> Result<Document, ParseDocumentError> {
        Document::parse(&Uint8Array::new(&self.bytes).to_vec())
    }

    /// A manifest made of its bytes now.
    pub(crate) fn new(bytes: &[u8], media_type: String, revision: Option<String>) -> Self {
        let metadata = ManifestMetadata {
            digest: Digest::of(bytes),
            media_type,
            revision,
            created: clock::now(),
            composed: false,
        };
        Self { bytes: Uint8Array::from(bytes).buffer(), metadata }
    }
}

impl Fetched {
    /// Takes bytes from the backend, which must have the digest that the client asked for, if it did.
    ///
    /// # Errors
    /// When anything that is said of the bytes is not so.
    pub(crate) fn verify(
        bytes: Vec<u8>,
        claims: Claims,
        expected: Option<&Digest>,
        asked: u64,
    ) -> Result<Self, VerifyError> {
        if let Some(claimed) = claims.content_length.filter(|text| text.parse() != Ok(bytes.len())) {
            return Err(VerifyError::Length { claimed, actual: bytes.len() });
        }
        let claimed: Digest =
            claims.digest.and_then(|text| text.parse().ok()).ok_or(VerifyError::NoDigest)?;
        let actual = Digest::of(&bytes);
        for claimed in [Some(&claimed), expected].into_iter().flatten() {
            if *claimed != actual {
                return Err(VerifyError::Digest { claimed: *claimed, actual });
            }
        }
        let media_type = claims.content_type.unwrap_or_default();
        if Document::parse(&bytes)?.media_type() != media_type {
            return Err(VerifyError::ContentType(media_type));
        }
        Ok(Self {
            package_set: claims.package_set.and_then(|text| text.parse().ok()),
            manifest: Manifest::new(&bytes, media_type, claims.revision.filter(|text| text.len() <= 128)),
            asked,
        })
    }
}
