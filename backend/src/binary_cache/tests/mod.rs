//! Reads from binary caches that are made and served here, with every fault that a cache can have.

mod contents;
mod faults;
mod fixture;
mod lies;
mod lookups;
mod nar;
mod proved;
mod server;

use super::*;
use crate::packing::{Encoder, FileTree, PackedLayer, Packer, PackingError};
use firn_shared::StorePath;
use fixture::CacheFiles;
use server::Server;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

/// Limits that a test can wait for.
fn limits() -> Limits {
    Limits {
        small_file: Duration::from_secs(5),
        pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(1500),
        aside: Duration::from_secs(60),
        longest_aside: Duration::from_secs(600),
        distrust: Duration::from_secs(600),
        priority: Duration::from_secs(5),
        second_opinion: Duration::from_secs(5),
        paths_at_once: 64,
        patience: Duration::from_secs(5),
        least_bytes: 1 << 10,
        nar: Duration::from_secs(24 * 3600),
        nar_of_several: Duration::from_secs(1800),
    }
}

fn caches_with(urls: &[&str], limits: Limits) -> BinaryCaches {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let urls: Vec<CacheUrl> = urls.iter().map(|url| url.parse().expect("a URL")).collect();
    let keys = fixture::public_key().parse().expect("a key");
    BinaryCaches::with_limits(&urls, keys, None, limits).expect("a client")
}

fn caches(urls: &[&str]) -> BinaryCaches {
    caches_with(urls, limits())
}

/// What the caches say of one path.
async fn find(caches: &BinaryCaches, path: &StorePath) -> CachedPath {
    let closure =
        caches.closure(std::slice::from_ref(path), &NoneKnown, &|_, _| {}).await.expect("the caches answer");
    closure.paths.into_iter().find(|found| found.info.path == *path).expect("a cache has it")
}

fn packer() -> Packer {
    Packer::new(Encoder::GZIP, NonZeroUsize::new(2).expect("not zero")).expect("threads start")
}

type Packed = Result<(PackedLayer, Vec<u8>), PackingError>;

fn pack_tree(tree: FileTree) -> Packed {
    let mut bytes = Vec::new();
    let layer = packer().pack(vec![tree], &mut bytes)?;
    Ok((layer, bytes))
}

/// The layer of a path, from a binary cache.
async fn pack(caches: &BinaryCaches, path: &CachedPath) -> Packed {
    let tree = FileTree::new((&path.info.path).into(), caches.open(path));
    tokio::task::spawn_blocking(move || pack_tree(tree)).await.expect("packing does not panic")
}

/// The layer of a path whose tree is in this directory.
fn pack_from_disk(path: &StorePath, root: &Path) -> (PackedLayer, Vec<u8>) {
    pack_tree(FileTree::relocated(path.into(), root.into())).expect("packs")
}

/// The error of a binary cache that ended packing.
fn nar_error(packed: Packed) -> NarError {
    let error = packed.map(drop).expect_err("it fails");
    NarError::of(&error).unwrap_or_else(|| panic!("{error:?}")).clone()
}
