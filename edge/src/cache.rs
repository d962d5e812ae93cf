//! What is nearest: the isolate's memory, then the Cache API, which the whole location shares. Both before KV.
//!
//! The Cache API does nothing on `workers.dev` hosts and may lose anything at any time, so failing is like
//! finding nothing. Only verified manifests get in.

use crate::{edge::Edge, manifest::Manifest, memory};
use firn_shared::{
    digest::Digest, edge_cache::ManifestMetadata, image_name::ImageName, media_type::ManifestFormat,
    protocol::REVISION, reference::Tag,
};
use worker::{Cache, Response, js_sys::Uint8Array, wasm_bindgen_futures::JsFuture, web_sys};

/// How long an answer to a tag is kept here at most, in seconds; it adds to the time that the tag counts.
const TAG_SECONDS: u64 = 30;
/// How long a manifest is kept by digest: a day, in seconds.
const DIGEST_SECONDS: u64 = 24 * 3600;
/// How long an isolate answers a tag from its memory at most, in seconds; that adds up too.
const MEMORY_SECONDS: u64 = 10;

/// What a cached manifest is found by.
pub(crate) struct Key {
    url: String,
    seconds: u64,
    memory_seconds: u64,
    memory_bytes: u64,
}

impl Key {
    /// The answer to a tag.
    pub(crate) fn tag(edge: &Edge, name: &ImageName, tag: &Tag, format: ManifestFormat) -> Self {
        let key = firn_shared::edge_cache::request_key(name, tag, format);
        let seconds = TAG_SECONDS.min(edge.config.tag_ttl_seconds);
        Self {
            url: format!("{}/.firn/tag/{key}", edge.origin),
            seconds,
            memory_seconds: seconds.min(MEMORY_SECONDS),
            memory_bytes: edge.config.memory_bytes,
        }
    }

    /// The manifest with a digest.
    pub(crate) fn digest(edge: &Edge, digest: &Digest) -> Self {
        Self {
            url: format!("{}/.firn/digest/{}", edge.origin, digest.hex()),
            seconds: DIGEST_SECONDS,
            memory_seconds: DIGEST_SECONDS,
            memory_bytes: edge.config.memory_bytes,
        }
    }

    /// The manifest, if it is here.
    pub(crate) async fn get(&self) -> Option<Manifest> {
        if self.seconds == 0 {
            return None;
        }
        if let Some(manifest) = memory::manifest(&self.url) {
            return Some(manifest);
        }
        let response = Cache::default().get(self.url.as_str(), false).await.ok()??;
        let header = |name| response.headers().get(name).ok().flatten();
        let metadata = ManifestMetadata {
            digest: header("docker-content-digest")?.parse().ok()?,
            media_type: header("content-type")?,
            revision: header(REVISION),
            created: 0,
        };
        // The runtime's own reading: chunk by chunk through Wasm costs several times as much.
        let body = web_sys::Response::from(response).array_buffer().ok()?;
        let bytes = Uint8Array::new(&JsFuture::from(body).await.ok()?).to_vec();
        let manifest = Manifest { bytes, metadata };
        self.remember(&manifest);
        Some(manifest)
    }

    fn remember(&self, manifest: &Manifest) {
        memory::remember_manifest(&self.url, manifest, self.memory_seconds, self.memory_bytes);
    }

    /// Keeps a manifest.
    pub(crate) async fn put(&self, manifest: &Manifest) {
        if self.seconds > 0 {
            self.remember(manifest);
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
