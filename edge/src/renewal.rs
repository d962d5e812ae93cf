//! Writes what is read from KV again before it expires, so that an image stays for as long as it is pulled.

use crate::{clock, compose, edge::Edge, kv_store::KvStore, manifest::Manifest, memory};
use firn_shared::{cache_key::CacheKey, link::edge_cache::digest_key};
use std::rc::Rc;

/// Renews the entries under the key by which a manifest was read, and under its digest, after the answer, if the manifest
/// is old and nobody else here does so.
pub(crate) fn note(edge: &Rc<Edge>, key: CacheKey, manifest: &Manifest) {
    let ttl = edge.config.manifest_ttl_seconds;
    let late = (memory::lateness() * (ttl / 4) as f64) as u64;
    if !manifest.metadata.is_due(clock::now(), ttl, late) || !memory::begin_renewal(&key.to_string()) {
        return;
    }
    let (edge, mut manifest) = (edge.clone(), manifest.clone());
    edge.clone().later(async move {
        if manifest.metadata.composed && !compose::hold(&edge, &manifest).await {
            return;
        }
        manifest.metadata.created = clock::now();
        if let Some(store) = KvStore::open(&edge.env, &edge.config) {
            let by_digest = digest_key(&manifest.metadata.digest);
            for key in [by_digest].into_iter().chain((key != by_digest).then_some(key)) {
                store.write(key, &manifest).await;
            }
        }
    });
}
