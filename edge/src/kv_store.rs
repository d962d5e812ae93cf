//! KV: tag pointers and manifests.
//!
//! KV is eventually consistent and caches misses. So a miss means "try the next source", and a failure counts as a
//! miss. Values are verified when they are read; a damaged value counts as missing.

use crate::{
    clock,
    kv::Kv,
    manifest::{Fetched, Manifest},
    memory, verified,
};
use firn_shared::{
    cache_key::CacheKey,
    link::{
        edge_cache::{self, ManifestMetadata, TagPointer},
        protocol::ImageSetId,
    },
    naming::image_name::ImageName,
    oci::{digest::Digest, media_type::ManifestFormat, reference::Tag},
};
use worker::{Env, console_warn};

/// The KV binding.
pub(crate) const BINDING: &str = "MANIFESTS";

/// The manifests that the edge has cached in KV.
pub(crate) struct KvStore {
    kv: Kv,
    tag_ttl_seconds: u64,
    manifest_ttl_seconds: u64,
}

impl KvStore {
    /// Opens the store. None if KV is not bound.
    pub(crate) fn open(env: &Env, config: &crate::config::Config) -> Option<Self> {
        let kv = Kv::bound(env, BINDING)?;
        let (tag_ttl_seconds, manifest_ttl_seconds) = (config.tag_ttl_seconds, config.manifest_ttl_seconds);
        Some(Self { kv, tag_ttl_seconds, manifest_ttl_seconds })
    }

    /// The pointer for a tag.
    pub(crate) async fn pointer(&self, tag: &Tag) -> Option<TagPointer> {
        if let Some(pointer) = memory::pointer(tag) {
            return Some(pointer);
        }
        let key = TagPointer::key(tag).to_string();
        let text = self.kv.text(&key).await.map_err(|error| warn("read a tag", &error)).ok()??;
        let pointer = serde_json::from_str(&text).ok()?;
        memory::remember_pointer(tag, &pointer);
        Some(pointer)
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

    /// Caches the backend's answer for an image by tag.
    pub(crate) async fn learn(&self, name: &ImageName, tag: &Tag, format: ManifestFormat, fetched: &Fetched) {
        if let Some(package_set) = &fetched.package_set {
            // The manifest first, then the pointer that leads to it.
            self.learn_image(package_set, name, format, &fetched.manifest).await;
            self.point(tag, package_set).await;
        }
        self.learn_digest(&fetched.manifest).await;
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
    pub(crate) async fn note_tag(&self, name: &ImageName, tag: &Tag) {
        if tag.is_latest() || !memory::note_tag(name, tag) {
            return;
        }
        let key = format!("{}{tag}", edge_cache::tags_prefix(name));
        if let Err(error) = self.kv.put_plain_bytes(&key, b"", self.manifest_ttl_seconds).await {
            warn("note a tag", &error);
        }
    }

    /// The tags that were recorded for a name.
    pub(crate) async fn noted_tags(&self, name: &ImageName) -> Vec<Tag> {
        let tags = self.kv.list_suffixes(&edge_cache::tags_prefix(name)).await;
        let tags = tags.map_err(|error| warn("list tags", &error)).unwrap_or_default();
        tags.iter().filter_map(|tag| tag.parse().ok()).collect()
    }

    /// Deletes a manifest by its digest, and, if `image` is given, as that image of a package set.
    pub(crate) async fn forget(
        &self,
        digest: &Digest,
        image: Option<(&ImageSetId, &ImageName, ManifestFormat)>,
    ) {
        let image = image.map(|(set, name, format)| edge_cache::manifest_key(set, name, format));
        for key in [Some(edge_cache::digest_key(digest)), image].into_iter().flatten() {
            if let Err(error) = self.kv.remove(&key.to_string()).await {
                warn("forget a manifest", &error);
            }
        }
    }

    async fn point(&self, tag: &Tag, package_set: &ImageSetId) {
        let now = clock::now();
        let pointer = TagPointer { package_set: package_set.clone(), checked: now };
        // KV accepts one write per key and second, so a pointer that is unchanged and young is not written.
        let young = |known: &TagPointer| {
            known.package_set == *package_set && now.saturating_sub(known.checked) * 4 < self.tag_ttl_seconds
        };
        if memory::pointer(tag).as_ref().is_some_and(young) {
            return;
        }
        let text = serde_json::to_string(&pointer).expect("strings and numbers serialise");
        match self.kv.put_text(&TagPointer::key(tag).to_string(), &text).await {
            Ok(()) => memory::remember_pointer(tag, &pointer),
            Err(error) => warn("write a tag", &error),
        }
    }

    async fn write(&self, key: CacheKey, manifest: &Manifest) {
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
