//! The nearest caches: the isolate's memory, then the Cache API, which the whole location shares. Both are read
//! before KV.
//!
//! The Cache API does nothing on `workers.dev` hosts, and may lose any entry at any time. So a failure counts as a
//! miss. Only verified manifests are cached.

use crate::{answer::Answer, edge::Edge, manifest::Manifest, memory};
use firn_shared::{
    link::{
        edge_cache::{ManifestMetadata, manifest_key},
        protocol::{ImageSetId, REVISION},
    },
    naming::image_name::ImageName,
    oci::{
        digest::Digest,
        media_type::ManifestFormat,
        respond::{Body, Response},
    },
};
use worker::js_sys::ArrayBuffer;
use worker::wasm_bindgen::{self, JsCast, prelude::wasm_bindgen};
use worker::wasm_bindgen_futures::JsFuture;
use worker::web_sys;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(thread_local_v2, js_namespace = caches, js_name = default)]
    static DEFAULT: web_sys::Cache;
}

/// How long a manifest is cached here: a day, in seconds. Under its keys, a manifest never changes.
const SECONDS: u64 = 24 * 3600;
/// How long the list of what refers to a manifest is cached, in seconds: a part of the time for which the backend keeps
/// what is on the list after it was asked for it.
const REFERRERS_SECONDS: u64 = 600;

/// The header that marks composed manifests in the Cache API.
const COMPOSED: &str = "x-firn-composed";

/// The key of a cached manifest.
pub(crate) struct Key {
    url: String,
    seconds: u64,
    memory_bytes: u64,
    shared: bool,
}

impl Key {
    /// The key of the manifest of an image of a package set.
    pub(crate) fn image(edge: &Edge, set: &ImageSetId, name: &ImageName, format: ManifestFormat) -> Self {
        Self::new(edge, &format!("image/{}", manifest_key(set, name, format)))
    }

    /// The key of the manifest with a digest.
    pub(crate) fn digest(edge: &Edge, digest: &Digest) -> Self {
        Self::new(edge, &format!("digest/{}", digest.hex()))
    }

    /// The key of the index of what refers to the manifest with a digest.
    pub(crate) fn referrers(edge: &Edge, subject: &Digest) -> Self {
        let path = format!("referrers/{}", subject.hex());
        Self { seconds: REFERRERS_SECONDS, ..Self::new(edge, &path) }
    }

    fn new(edge: &Edge, path: &str) -> Self {
        Self {
            url: url(edge, path),
            seconds: SECONDS,
            memory_bytes: edge.config.memory_bytes,
            shared: edge.config.cache_api,
        }
    }

    /// The cached manifest, if there is one.
    pub(crate) async fn get(&self) -> Option<Manifest> {
        if let Some(manifest) = memory::manifest(&self.url) {
            return Some(manifest);
        }
        if !self.shared {
            return None;
        }
        let response = find(&self.url).await?;
        let headers = response.headers();
        let header = |name| headers.get(name).ok().flatten();
        let metadata = ManifestMetadata {
            digest: header("docker-content-digest")?.parse().ok()?,
            media_type: header("content-type")?,
            revision: header(REVISION),
            created: 0,
            composed: header(COMPOSED).is_some(),
        };
        // The runtime reads the body: reading it in chunks through Wasm takes several times as long.
        let bytes: ArrayBuffer = JsFuture::from(response.array_buffer().ok()?).await.ok()?.dyn_into().ok()?;
        let manifest = Manifest { bytes, metadata };
        self.remember(&manifest);
        Some(manifest)
    }

    fn remember(&self, manifest: &Manifest) {
        memory::remember_manifest(&self.url, manifest, self.seconds, self.memory_bytes);
    }

    /// Caches a manifest: in memory at once, in the Cache API after the answer.
    pub(crate) fn keep(self, edge: &Edge, manifest: &Manifest) {
        self.remember(manifest);
        if self.shared {
            let manifest = manifest.clone();
            // If this fails, the next request has a miss.
            edge.later(async move { drop(self.put(manifest).await) });
        }
    }

    /// Removes the manifest from the caches.
    pub(crate) async fn forget(&self) {
        memory::forget_manifest(&self.url);
        if self.shared {
            // If this fails, the next request finds again that the manifest is unusable.
            remove(&self.url).await;
        }
    }

    async fn put(&self, Manifest { bytes, metadata }: Manifest) -> worker::Result<()> {
        let mut response = Response::new(200)
            .with("content-type", metadata.media_type)
            .with("docker-content-digest", metadata.digest.to_string())
            .with("cache-control", format!("max-age={}", self.seconds))
            .with_some(REVISION, metadata.revision)
            .with_some(COMPOSED, metadata.composed.then_some("1"));
        response.body = Body::Manifest;
        let response = Answer::with_buffer(response, bytes).into_response()?;
        put(&self.url, &response).await
    }
}

/// The URL under which the Cache API has what is at a path. Clients cannot ask for it.
pub(crate) fn url(edge: &Edge, path: &str) -> String {
    format!("{}/.firn/{path}", edge.origin())
}

/// What the Cache API has under a URL. A failure counts as nothing.
pub(crate) async fn find(url: &str) -> Option<web_sys::Response> {
    let found = JsFuture::from(DEFAULT.with(|cache| cache.match_with_str(url))).await.ok()?;
    found.dyn_into().ok()
}

/// Gives the Cache API a response, whose `Cache-Control` says how long it is kept.
///
/// # Errors
/// If the Cache API does not take it.
pub(crate) async fn put(url: &str, response: &web_sys::Response) -> worker::Result<()> {
    JsFuture::from(DEFAULT.with(|cache| cache.put_with_str(url, response))).await?;
    Ok(())
}

/// Removes what the Cache API has under a URL.
pub(crate) async fn remove(url: &str) {
    let _ = JsFuture::from(DEFAULT.with(|cache| cache.delete_with_str(url))).await;
}
