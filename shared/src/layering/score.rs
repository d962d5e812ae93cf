//! Measures how long a client waits for a sequence of images, and how well the images share layers.
//!
//! A ratio is the bytes fetched divided by the bytes of the distinct store paths; 1.0 is the best possible. Bytes are
//! NAR sizes. Compression, the symlink layer and HTTP overhead are left out, because layering hardly changes them.

use crate::{Closure, StorePath, cache_key::CacheKey};
use std::collections::HashSet;

/// What a pull costs a client: time for the bytes, and for each layer time for a request, a directory and a database
/// entry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PullCosts {
    /// NAR bytes that the client fetches and unpacks per second.
    pub throughput: f64,
    /// Seconds that the client needs for an empty layer.
    pub layer_seconds: f64,
}

/// Counts what a client fetches if it pulls one image after another and keeps every layer.
#[derive(Debug, Clone, Default)]
pub struct Scorer {
    paths: HashSet<StorePath>,
    layers: HashSet<CacheKey>,
    chains: HashSet<CacheKey>,
    /// The layers that the packages of the next image have when each is pulled alone.
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
    /// Bytes fetched by a client that keeps layers by digest (containerd, podman).
    pub transferred_bytes: u64,
    /// Bytes fetched by a client that reuses a layer only on top of the same layers (Docker's classic store).
    pub chain_transferred_bytes: u64,
    /// Layers fetched by a client that keeps layers by digest.
    pub transferred_layers: usize,
    /// Bytes fetched in total if an empty client pulls each image.
    pub alone_bytes: u64,
    /// Layers fetched in total if an empty client pulls each image.
    pub alone_layers: usize,
    /// Images in which every layer is also a layer of one of the image's packages alone.
    pub composable: usize,
    /// Bytes that a registry stores: the layers of all images, and the layers of their packages alone.
    pub stored_bytes: u64,
    /// Layers per image, on average.
    pub layers_mean: f64,
    /// Layers of the image with the most layers.
    pub layers_max: usize,
}

impl PullCosts {
    /// The price of a layer as bytes: the client could fetch this many in the same time.
    pub fn layer_bytes(&self) -> u64 {
        (self.throughput * self.layer_seconds).round() as u64
    }

    /// The time to fetch `layers` layers of `bytes` bytes in total, in seconds.
    pub fn seconds(&self, bytes: u64, layers: usize) -> f64 {
        bytes as f64 / self.throughput + layers as f64 * self.layer_seconds
    }
}

impl Default for PullCosts {
    /// The costs of Docker's classic store and podman, the slowest of today's clients (`docs/decisions/pulls.md`).
    fn default() -> Self {
        Self { throughput: 100e6, layer_seconds: 0.05 }
    }
}

impl Scorer {
    /// Records the layers of a package of the next image, as if the package were pulled alone.
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

    /// What the client has fetched so far.
    pub fn score(&self) -> Score {
        let images = self.score.images.max(1) as f64;
        Score { layers_mean: self.score.alone_layers as f64 / images, ..self.score }
    }
}

impl Score {
    /// What the client has fetched since an earlier score of the same [`Scorer`]. `layers_mean` and `layers_max` still
    /// cover all images.
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

    /// Bytes fetched per distinct byte, for a client that keeps layers by digest. 1.0 if no bytes were needed.
    pub fn ratio(&self) -> f64 {
        self.per_distinct_byte(self.transferred_bytes)
    }

    /// The same ratio for a client that reuses a layer only on top of the same layers.
    pub fn chain_ratio(&self) -> f64 {
        self.per_distinct_byte(self.chain_transferred_bytes)
    }

    /// How long a client that keeps layers by digest waits for all images, one after another, in seconds.
    pub fn sequence_seconds(&self, costs: PullCosts) -> f64 {
        costs.seconds(self.transferred_bytes, self.transferred_layers)
    }

    /// How long an empty client waits for one image on average, in seconds.
    pub fn first_seconds(&self, costs: PullCosts) -> f64 {
        costs.seconds(self.alone_bytes, self.alone_layers) / self.images.max(1) as f64
    }

    /// The share of images that can be composed from the records of their packages.
    pub fn composable_share(&self) -> f64 {
        self.composable as f64 / self.images.max(1) as f64
    }

    fn per_distinct_byte(&self, bytes: u64) -> f64 {
        if self.distinct_bytes == 0 { 1.0 } else { bytes as f64 / self.distinct_bytes as f64 }
    }
}

/// The identity of a layer: the set of its store paths.
fn key(closure: &Closure, group: &[usize]) -> CacheKey {
    let mut names: Vec<&str> = group.iter().map(|&i| closure.paths()[i].path.as_str()).collect();
    names.sort_unstable();
    CacheKey::builder("layer").list(names.into_iter()).build()
}

fn bytes(closure: &Closure, group: &[usize]) -> u64 {
    group.iter().map(|&i| closure.paths()[i].nar_size).sum()
}
