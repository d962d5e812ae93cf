//! Documents: what a registry serves under `/manifests/`. Image manifests and image indexes (OCI image spec,
//! "manifest.md" and "image-index.md"), and the same in Docker's media types ("image manifest version 2, schema 2").
//!
//! There is one model, one parser and one writer for all of them. [`Document::children`] is everything that a document
//! refers to and that has to be stored for a client to pull it. Whoever checks, collects or guards images goes by that,
//! so that none of them need know the kinds of documents.
//!
//! `oci-spec` is not used for it: it keeps annotations in a `HashMap`, whose order differs from run to run, and a
//! document's digest is part of the image's identity. Tests read what is written here with `oci-spec`.

use super::{
    digest::{Digest, ParseDigestError},
    media_type::{self, ManifestFormat},
    platform::Platform,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most that clients accept as a document, in bytes.
pub const MAX_BYTES: usize = 4 << 20;
/// How much of a text that is not understood goes into an error, in characters.
const QUOTED: usize = 100;
/// How long each half of a media type is at most (RFC 6838), in bytes.
const MEDIA_TYPE_HALF: usize = 127;

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An image for one platform, or an artifact.
    Image(ImageManifest),
    /// A list of manifests, of which a client takes the one for its platform.
    Index(ImageIndex),
}

/// An image manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// Whose media types it has.
    pub format: ManifestFormat,
    /// What an artifact is, where it is no image.
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about. It may be missing, so it is no child.
    pub subject: Option<Descriptor>,
    /// Facts about the image.
    pub annotations: BTreeMap<String, String>,
}

/// An image index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIndex {
    /// Whose media types it has.
    pub format: ManifestFormat,
    /// What kind of list it is, where it lists no images.
    pub artifact_type: Option<String>,
    /// Descriptors of documents, and of nothing else.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index is about. It may be missing, so it is no child.
    pub subject: Option<Descriptor>,
    /// Facts about the index.
    pub annotations: BTreeMap<String, String>,
}

/// What a document says of a blob or of another document (OCI image spec, "descriptor.md").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "RawDescriptor")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes; at most `i64::MAX`, which is what clients read.
    pub size: u64,
    /// Facts about it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// In an index, the platform that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
    /// What the artifact is, if it is the manifest of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// The platform of a manifest in an index, by which clients choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorPlatform {
    /// Go's `GOARCH`.
    pub architecture: String,
    /// Go's `GOOS`.
    pub os: String,
    /// The variant of the architecture, such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Something that a document refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child<'a> {
    /// What the document says of it.
    pub descriptor: &'a Descriptor,
    /// Whether it is a document itself.
    pub kind: ChildKind,
}

/// What a document refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildKind {
    /// A config or a layer: served under `/blobs/`, refers to nothing.
    Blob,
    /// Another document: served under `/manifests/`, with children of its own.
    Manifest,
}

/// Why bytes are no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDocumentError {
    /// Clients would refuse it.
    #[error("longer than {MAX_BYTES} bytes")]
    TooLong,
    /// It is not JSON, or its fields have other types.
    #[error("not the JSON of a manifest: {0}")]
    Json(String),
    /// `schemaVersion` is missing or is not 2.
    #[error("schemaVersion is not 2")]
    SchemaVersion,
    /// A document's media type is missing, or is none that this is about.
    #[error("{0:?} is not the media type of a manifest or an index")]
    DocumentType(String),
    /// A descriptor's media type is not `type/subtype`.
    #[error("{0:?} is no media type")]
    MediaType(String),
    /// A field is missing that this kind of document must have.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field is there that belongs to another kind of document: two readers could disagree about what it is
    /// (CVE-2021-41190).
    #[error("{0} belongs to another kind of document")]
    Ambiguous(&'static str),
    /// A descriptor's digest.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    /// A descriptor's size is negative, fractional or larger than clients read.
    #[error("{0} is no size")]
    Size(String),
}

impl Document {
    /// Parses a document. What it does not know it ignores, as the spec asks; what it knows must be right.
    ///
    /// # Errors
    /// When the bytes are no document of the four media types.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseDocumentError> {
        if bytes.len() > MAX_BYTES {
            return Err(ParseDocumentError::TooLong);
        }
        let raw: RawDocument =
            serde_json::from_slice(bytes).map_err(|error| ParseDocumentError::Json(error.to_string()))?;
        raw.try_into()
    }

    /// The document as JSON. The same document always has the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let written = match self {
            Self::Image(image) => Written {
                config: Some(&image.config),
                layers: Some(&image.layers),
                manifests: None,
                ..self.written(&image.artifact_type, &image.subject, &image.annotations)
            },
            Self::Index(index) => Written {
                manifests: Some(&index.manifests),
                ..self.written(&index.artifact_type, &index.subject, &index.annotations)
            },
        };
        serde_json::to_vec(&written).expect("texts and numbers serialise")
    }

    fn written<'a>(
        &self,
        artifact_type: &'a Option<String>,
        subject: &'a Option<Descriptor>,
        annotations: &'a BTreeMap<String, String>,
    ) -> Written<'a> {
        Written {
            schema_version: 2,
            media_type: self.media_type(),
            artifact_type: artifact_type.as_deref(),
            config: None,
            layers: None,
            manifests: None,
            subject: subject.as_ref(),
            annotations,
        }
    }

    /// Its media type, which answers carry as `Content-Type`.
    pub const fn media_type(&self) -> &'static str {
        match self {
            Self::Image(image) => image.format.manifest(),
            Self::Index(index) => index.format.index(),
        }
    }

    /// Everything that it refers to and that has to be stored: config and layers, bottom first, or manifests. The same
    /// digest can be there more than once.
    pub fn children(&self) -> impl Iterator<Item = Child<'_>> {
        let (config, layers, manifests) = match self {
            Self::Image(image) => (Some(&image.config), image.layers.as_slice(), [].as_slice()),
            Self::Index(index) => (None, [].as_slice(), index.manifests.as_slice()),
        };
        let child = |kind| move |descriptor| Child { descriptor, kind };
        let blobs = config.into_iter().chain(layers).map(child(ChildKind::Blob));
        blobs.chain(manifests.iter().map(child(ChildKind::Manifest)))
    }
}

impl ImageManifest {
    /// The manifest of an image, given its config's digest and size. Docker's format has no annotations.
    pub fn new(
        format: ManifestFormat,
        (digest, size): (Digest, u64),
        layers: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Self {
        Self {
            format,
            artifact_type: None,
            config: Descriptor::new(format.config(), digest, size),
            layers,
            subject: None,
            annotations: match format {
                ManifestFormat::Oci => annotations,
                ManifestFormat::Docker => BTreeMap::new(),
            },
        }
    }
}

impl ImageIndex {
    /// An index of these documents.
    pub fn new(format: ManifestFormat, manifests: Vec<Descriptor>) -> Self {
        Self { format, artifact_type: None, manifests, subject: None, annotations: BTreeMap::new() }
    }
}

impl Descriptor {
    /// A descriptor that says only what every descriptor must.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}

impl From<Platform> for DescriptorPlatform {
    fn from(platform: Platform) -> Self {
        Self { architecture: platform.architecture().to_owned(), os: "linux".to_owned(), variant: None }
    }
}

/// A document as it is written: both kinds, in this order of fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    schema_version: u8,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<&'a [Descriptor]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<&'a [Descriptor]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

/// A document as it is read, before anything about it is believed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: Option<serde_json::Number>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    subject: Option<RawDescriptor>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The same of a descriptor.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: String,
    digest: String,
    size: serde_json::Number,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<DescriptorPlatform>,
    artifact_type: Option<String>,
}

impl TryFrom<RawDocument> for Document {
    type Error = ParseDocumentError;

    fn try_from(raw: RawDocument) -> Result<Self, Self::Error> {
        use ParseDocumentError::{Ambiguous, Missing};
        if raw.schema_version.and_then(|version| version.as_u64()) != Some(2) {
            return Err(ParseDocumentError::SchemaVersion);
        }
        let media_type = document_type(&raw.media_type.unwrap_or_default())?;
        let format = ManifestFormat::of(media_type);
        let subject = raw.subject.map(Descriptor::try_from).transpose()?;
        let RawDocument { artifact_type, annotations, config, layers, manifests, .. } = raw;
        if media_type == format.index() {
            for (field, is_there) in [("config", config.is_some()), ("layers", layers.is_some())] {
                if is_there {
                    return Err(Ambiguous(field));
                }
            }
            let manifests = descriptors(manifests.ok_or(Missing("manifests"))?)?;
            for manifest in &manifests {
                document_type(&manifest.media_type)?;
            }
            return Ok(Self::Index(ImageIndex { format, artifact_type, manifests, subject, annotations }));
        }
        if manifests.is_some() {
            return Err(Ambiguous("manifests"));
        }
        let config = config.ok_or(Missing("config"))?.try_into()?;
        let layers = descriptors(layers.ok_or(Missing("layers"))?)?;
        Ok(Self::Image(ImageManifest { format, artifact_type, config, layers, subject, annotations }))
    }
}

impl TryFrom<RawDescriptor> for Descriptor {
    type Error = ParseDocumentError;

    fn try_from(raw: RawDescriptor) -> Result<Self, Self::Error> {
        let RawDescriptor { media_type, digest, size, annotations, platform, artifact_type } = raw;
        if !is_media_type(&media_type) {
            return Err(ParseDocumentError::MediaType(quoted(&media_type)));
        }
        let is_readable = |size: &u64| i64::try_from(*size).is_ok();
        let size = size.as_u64().filter(is_readable).ok_or(ParseDocumentError::Size(size.to_string()))?;
        Ok(Self { media_type, digest: digest.parse()?, size, annotations, platform, artifact_type })
    }
}

fn descriptors(raw: Vec<RawDescriptor>) -> Result<Vec<Descriptor>, ParseDocumentError> {
    raw.into_iter().map(Descriptor::try_from).collect()
}

fn document_type(text: &str) -> Result<&'static str, ParseDocumentError> {
    media_type::of_document(text).ok_or_else(|| ParseDocumentError::DocumentType(quoted(text)))
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}

/// Whether a text is `type/subtype`, without parameters (RFC 6838, section 4.2).
fn is_media_type(text: &str) -> bool {
    let is_half = |half: &str| {
        let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        half.len() <= MEDIA_TYPE_HALF
            && half.starts_with(|first: char| first.is_ascii_alphanumeric())
            && half.bytes().all(is_in_name)
    };
    text.split_once('/').is_some_and(|(kind, subtype)| is_half(kind) && is_half(subtype))
}

#[cfg(test)]
mod tests;
