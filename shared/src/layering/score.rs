//! How long clients wait for the images of a sequence, and how well their layers are shared.
//!
//! The ratios are bytes fetched, divided by the bytes of the distinct store paths: 1.0 is the limit. Bytes are
//! NAR sizes; compression, the symlink layer and HTTP are left out, since no grouping changes them much.

use crate::{Closure, StorePath, cache_key::CacheKey};
use std::collections::HashSet;

/// What a pull costs a client: bytes, and for each layer that it fetches some time for a request, a directory and a
/// database entry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PullCosts {
    /// Bytes of NAR that are fetched and unpacked in a second.
    pub throughput: f64,
    /// Seconds for a layer of no bytes.
    pub layer_seconds: f64,
}

/// Counts what a client fetches that pulls one image after the other and forgets nothing.
#[derive(Debug, Clone, Default)]
pub struct Scorer {
    paths: HashSet<StorePath>,
    layers: HashSet<CacheKey>,
    chains: HashSet<CacheKey>,
    /// The layers that the packages of the next image have by themselves.
    known: HashSet<CacheKey>,
    stored: HashSet<CacheKey>,
    score: Score,
}

/// What a client has fetched.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    /// How many images were pulled.
    pub images: usize,
    /// Size of the distinct store paths of all images, in bytes.
    pub distinct_bytes: u64,
    /// What a client fetches that keeps layers by their content (containerd, podman), in bytes.
    pub transferred_bytes: u64,
    /// What a client fetches that keeps a layer only on top of the same layers (Docker's classic store), in
    /// bytes.
    pub chain_transferred_bytes: u64,
    /// How many layers a client fetches that keeps them by their content.
    pub transferred_layers: usize,
    /// Size of all images together, as clients fetch them that have nothing yet, in bytes.
    pub alone_bytes: u64,
    /// Layers of all images together.
    pub alone_layers: usize,
    /// How many images have only layers that one of their packages has by itself.
    pub composable: usize,
    /// What a registry stores: the layers of all images, and those of their packages by themselves, in bytes.
    pub stored_bytes: u64,
    /// Layers per image, on average.
    pub layers_mean: f64,
    /// Layers of the image that has most.
    pub layers_max: usize,
}

impl PullCosts {
    /// The bytes that are fetched while a layer costs its time.
    pub fn layer_bytes(&self) -> u64 {
        (self.throughput * self.layer_seconds).round() as u64
    }

    /// The time of one fetch of `layers` layers with `bytes` bytes together, in seconds.
    pub fn seconds(&self, bytes: u64, layers: usize) -> f64 {
        bytes as f64 / self.throughput + layers as f64 * self.layer_seconds
    }
}

impl Default for PullCosts {
    /// What Docker's classic store and podman need, the slowest of today's clients (`docs/decisions/pulls.md`).
    fn default() -> Self {
        Self { throughput: 100e6, layer_seconds: 0.05 }
    }
}

impl Scorer {
    /// Tells of the layers that a package of the next image has by itself.
    pub fn package(&mut self, closure: &Closure, groups: &[Vec<usize>]) {
        for group in groups {
            let layer = key(closure, group);
            self.known.insert(layer);
            self.store(layer, closure, group);
        }
    }

    fn store(&mut self, layer: CacheKey, closure: &Closure, group: &[usize]) {
        if self.stored.insert(layer) {
            self.score.stored_bytes += bytes(closure, group);
        }
    }

    /// Pulls an image whose layers, bottom first, are these groups of the closure.
    pub fn pull(&mut self, closure: &Closure, groups: &[Vec<usize>]) {
        for path in closure.paths() {
            if self.paths.insert(path.path.clone()) {
                self.score.distinct_bytes += path.nar_size;
            }
        }
        let known = std::mem::take(&mut self.known);
        let mut is_composable = true;
        let mut below: Option<CacheKey> = None;
        for group in groups {
            let bytes = bytes(closure, group);
            let layer = key(closure, group);
            let mut chain = CacheKey::builder("chain").field(layer.to_string());
            if let Some(below) = below {
                chain = chain.field(below.to_string());
            }
            let chain = chain.build();
            below = Some(chain);
            self.score.alone_bytes += bytes;
            self.store(layer, closure, group);
            is_composable &= known.contains(&layer);
            if self.layers.insert(layer) {
                self.score.transferred_bytes += bytes;
                self.score.transferred_layers += 1;
            }
            if self.chains.insert(chain) {
                self.score.chain_transferred_bytes += bytes;
            }
        }
        self.score.composable += usize::from(is_composable);
        self.score.alone_layers += groups.len();
        self.score.images += 1;
        self.score.layers_max = self.score.layers_max.max(groups.len());
    }

    /// What was fetched so far.
    pub fn score(&self) -> Score {
        let images = self.score.images.max(1) as f64;
        Score { layers_mean: self.score.alone_layers as f64 / images, ..self.score }
    }
}

impl Score {
    /// What was fetched since an earlier score of the same client. The layers stay those of all images.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            images: self.images - earlier.images,
            distinct_bytes: self.distinct_bytes - earlier.distinct_bytes,
            transferred_bytes: self.transferred_bytes - earlier.transferred_bytes,
            chain_transferred_bytes: self.chain_transferred_bytes - earlier.chain_transferred_bytes,
            transferred_layers: self.transferred_layers - earlier.transferred_layers,
            alone_bytes: self.alone_bytes - earlier.alone_bytes,
            alone_layers: self.alone_layers - earlier.alone_layers,
            composable: self.composable - earlier.composable,
            stored_bytes: self.stored_bytes - earlier.stored_bytes,
            ..*self
        }
    }

    /// Bytes fetched per byte needed, for a client that keeps layers by their content. 1.0 when nothing was
    /// needed.
    pub fn ratio(&self) -> f64 {
        self.per_distinct_byte(self.transferred_bytes)
    }

    /// The same for a client that keeps a layer only on top of the same layers.
    pub fn chain_ratio(&self) -> f64 {
        self.per_distinct_byte(self.chain_transferred_bytes)
    }

    /// How long a client waits for all images one after the other, in seconds, if it keeps layers by their content.
    pub fn sequence_seconds(&self, costs: PullCosts) -> f64 {
        costs.seconds(self.transferred_bytes, self.transferred_layers)
    }

    /// How long a client that has nothing yet waits for one image, on average, in seconds.
    pub fn first_seconds(&self, costs: PullCosts) -> f64 {
        costs.seconds(self.alone_bytes, self.alone_layers) / self.images.max(1) as f64
    }

    /// The share of images that can be composed of what is known of their packages.
    pub fn composable_share(&self) -> f64 {
        self.composable as f64 / self.images.max(1) as f64
    }

    fn per_distinct_byte(&self, bytes: u64) -> f64 {
        if self.distinct_bytes == 0 { 1.0 } else { bytes as f64 / self.distinct_bytes as f64 }
    }
}

/// What a layer is known by.
fn key(closure: &Closure, group: &[usize]) -> CacheKey {
    let mut names: Vec<&str> = group.iter().map(|&i| closure.paths()[i].path.as_str()).collect();
    names.sort_unstable();
    CacheKey::builder("layer").list(names.into_iter()).build()
}

fn bytes(closure: &Closure, group: &[usize]) -> u64 {
    group.iter().map(|&i| closure.paths()[i].nar_size).sum()
}
