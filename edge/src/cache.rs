//! The Cache API: this location's own memory, before KV.
//!
//! It does nothing on `workers.dev` hosts and may lose anything at any time, so failing is like finding
//! nothing. Only verified manifests get in.

use crate::{edge::Edge, manifest::Manifest};
use firn_shared::{
    digest::Digest, edge_cache::ManifestMetadata, image_name::ImageName, media_type::ManifestFormat,
    protocol::REVISION, reference::Tag,
};
use worker::{Cache, Response};

/// How long an answer to a tag is kept here at most, in seconds; it adds to the time that the tag counts.
const TAG_SECONDS: u64 = 30;
/// How long a manifest is kept by digest: a day, in seconds.
const DIGEST_SECONDS: u64 = 24 * 3600;

/// What a cached manifest is found by.
pub(crate) struct Key {
    url: String,
    seconds: u64,
}

impl Key {
    /// The answer to a tag.
    pub(crate) fn tag(edge: &Edge, name: &ImageName, tag: &Tag, format: ManifestFormat) -> Self {
        let key = firn_shared::edge_cache::request_key(name, tag, format);
        let seconds = TAG_SECONDS.min(edge.config.tag_ttl_seconds);
        Self { url: format!("{}/.firn/tag/{key}", edge.origin), seconds }
    }

    /// The manifest with a digest.
    pub(crate) fn digest(edge: &Edge, digest: &Digest) -> Self {
        Self { url: format!("{}/.firn/digest/{}", edge.origin, digest.hex()), seconds: DIGEST_SECONDS }
    }

    /// The manifest, if it is here.
    pub(crate) async fn get(&self) -> Option<Manifest> {
        if self.seconds == 0 {
            return None;
        }
        let mut response = Cache::default().get(self.url.as_str(), false).await.ok()??;
        let header = |name| response.headers().get(name).ok().flatten();
        let metadata = ManifestMetadata {
            digest: header("docker-content-digest")?.parse().ok()?,
            media_type: header("content-type")?,
            revision: header(REVISION),
            created: 0,
        };
        Some(Manifest { bytes: response.bytes().await.ok()?, metadata })
    }

    /// Keeps a manifest.
    pub(crate) async fn put(&self, manifest: &Manifest) {
        if self.seconds > 0 {
            // Whatever goes wrong, the next request finds nothing here.
            let _ = self.try_put(manifest).await;
        }
    }

    async fn try_put(&self, manifest: &Manifest) -> worker::Result<()> {
        let mut builder = Response::builder()
            .with_header("content-type", &manifest.metadata.media_type)?
            .with_header("docker-content-digest", &manifest.metadata.digest.to_string())?
            .with_header("cache-control", &format!("max-age={}", self.seconds))?;
        if let Some(revision) = &manifest.metadata.revision {
            builder = builder.with_header(REVISION, revision)?;
        }
        Cache::default().put(self.url.as_str(), builder.fixed(manifest.bytes.clone())).await
    }
}
