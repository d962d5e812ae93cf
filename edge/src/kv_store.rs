//! KV: tag pointers and manifests.
//!
//! KV is eventually consistent and caches misses. So a miss means "try the next source", and a failure counts as a
//! miss. Values are verified when they are read; a damaged value counts as missing.

use crate::{
    backend,
    edge::Edge,
    kv::Kv,
    location,
    manifest::{Fetched, Manifest},
    memory, verified,
};
use firn_shared::{
    cache_key::CacheKey,
    link::{
        edge_cache::{self, ManifestMetadata},
        protocol::ImageSetId,
        tag_pointer::TagPointer,
    },
    naming::image_name::ImageName,
    oci::{digest::Digest, media_type::ManifestFormat, reference::Tag},
};
use worker::{Env, console_warn};

/// The KV binding.
pub(crate) const BINDING: &str = "MANIFESTS";

/// How long KV may refuse to write a key that was just written, in milliseconds.
const WRITE_MILLIS: u64 = 1_100;
/// How long a location remembers that it has recorded a tag: a day, in seconds.
const NOTED_SECONDS: u64 = 24 * 3600;

/// The manifests that the edge has cached in KV.
pub(crate) struct KvStore {
    kv: Kv,
    manifest_ttl_seconds: u64,
}

impl KvStore {
    /// Opens the store. None if KV is not bound.
    pub(crate) fn open(env: &Env, config: &crate::config::Config) -> Option<Self> {
        Some(Self { kv: Kv::bound(env, BINDING)?, manifest_ttl_seconds: config.manifest_ttl_seconds })
    }

    /// The pointer of a tag.
    pub(crate) async fn pointer(&self, tag: &Tag) -> Option<TagPointer> {
        let key = TagPointer::key(tag).to_string();
        let text = self.kv.text(&key).await.map_err(|error| warn("read a tag", &error)).ok()??;
        serde_json::from_slice(text.as_bytes()).ok()
    }

    /// Writes the pointer of a tag, which must have changed: every write is billed. Returns whether it is written.
    pub(crate) async fn point(&self, tag: &Tag, pointer: &TagPointer) -> bool {
        let text = serde_json::to_string(pointer).expect("texts and numbers serialise");
        let written = self.kv.put_text(&TagPointer::key(tag).to_string(), &text).await;
        written.map_err(|error| warn("write a tag", &error)).is_ok()
    }

    /// The manifest of an image of a package set.
    pub(crate) async fn manifest(
        &self,
        package_set: &ImageSetId,
        name: &ImageName,
        format: ManifestFormat,
    ) -> Option<Manifest> {
        self.read(edge_cache::manifest_key(package_set, name, format)).await
    }

    /// The manifest with a digest.
    pub(crate) async fn by_digest(&self, digest: &Digest) -> Option<Manifest> {
        let manifest = self.read(edge_cache::digest_key(digest)).await?;
        (manifest.metadata.digest == *digest).then_some(manifest)
    }

    async fn read(&self, key: CacheKey) -> Option<Manifest> {
        // KV's cacheTtl would cache a miss for as long as a hit, so the default is used.
        let (bytes, metadata) = self
            .kv
            .bytes::<ManifestMetadata>(&key.to_string())
            .await
            .map_err(|error| warn("read a manifest", &error))
            .ok()??;
        let manifest = verified::from_cache(bytes, metadata);
        if manifest.is_none() {
            warn("use a manifest", &"its bytes do not have its digest");
        }
        manifest
    }

    /// Caches the backend's answer for an image.
    pub(crate) async fn learn(&self, name: &ImageName, format: ManifestFormat, fetched: &Fetched) {
        // Clients that have resolved the tag ask for the digest next, wherever they are.
        self.learn_digest(&fetched.manifest).await;
        if let Some(package_set) = &fetched.package_set {
            self.learn_image(package_set, name, format, &fetched.manifest).await;
        }
    }

    /// Caches the manifest of an image of a package set, independently of tags.
    pub(crate) async fn learn_image(
        &self,
        package_set: &ImageSetId,
        name: &ImageName,
        format: ManifestFormat,
        manifest: &Manifest,
    ) {
        self.write(edge_cache::manifest_key(package_set, name, format), manifest).await;
    }

    /// Caches a manifest by its digest only.
    pub(crate) async fn learn_digest(&self, manifest: &Manifest) {
        self.write(edge_cache::digest_key(&manifest.metadata.digest), manifest).await;
    }

    /// Records that the edge has served a name by this tag without asking the backend, which may not know of it. This
    /// is not needed for `latest`: the edge finds out at once whether it can answer for that.
    pub(crate) async fn note_tag(&self, edge: &Edge, name: &ImageName, tag: &Tag) {
        if tag.is_latest() || !memory::note_tag(name, tag) {
            return;
        }
        let key = format!("{}{tag}", edge_cache::tags_prefix(name));
        // Another isolate here may have done so: every write is billed.
        if location::get(edge, &key).await.is_some() {
            return;
        }
        match self.kv.put_plain_bytes(&key, b"", self.manifest_ttl_seconds).await {
            Ok(()) => {
                location::keep(edge, &key, Vec::new(), NOTED_SECONDS.min(self.manifest_ttl_seconds / 2))
            }
            Err(error) => warn("note a tag", &error),
        }
    }

    /// The tags that were recorded for a name.
    pub(crate) async fn noted_tags(&self, name: &ImageName) -> Vec<Tag> {
        let tags = self.kv.list_suffixes(&edge_cache::tags_prefix(name)).await;
        let tags = tags.map_err(|error| warn("list tags", &error)).unwrap_or_default();
        tags.iter().filter_map(|tag| tag.parse().ok()).collect()
    }

    /// Deletes a manifest by its digest, and as these images of package sets.
    pub(crate) async fn forget<'a>(
        &self,
        digest: &Digest,
        images: impl IntoIterator<Item = (&'a ImageSetId, &'a ImageName, ManifestFormat)>,
    ) {
        let images =
            images.into_iter().map(|(set, name, format)| edge_cache::manifest_key(set, name, format));
        for key in [edge_cache::digest_key(digest)].into_iter().chain(images) {
            let key = key.to_string();
            if self.kv.remove(&key).await.is_ok() {
                continue;
            }
            // It may have been written within the last second.
            backend::sleep(WRITE_MILLIS).await;
            if let Err(error) = self.kv.remove(&key).await {
                warn("forget a manifest", &error);
            }
        }
    }

    /// Writes a manifest under one of its keys.
    pub(crate) async fn write(&self, key: CacheKey, manifest: &Manifest) {
        let (key, Manifest { bytes, metadata }) = (key.to_string(), manifest);
        if let Err(error) = self.kv.put_bytes(&key, bytes, metadata, self.manifest_ttl_seconds).await {
            warn("write a manifest", &error);
        }
    }
}

fn warn(what: &str, error: &dyn std::fmt::Display) {
    let line = serde_json::json!({ "message": format!("KV could not {what}"), "error": error.to_string() });
    console_warn!("{line}");
}
