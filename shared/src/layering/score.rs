//! How well layers are shared over a sequence of images.
//!
//! Both scores are bytes fetched, divided by the bytes of the distinct store paths: 1.0 is the limit. Bytes are
//! NAR sizes; compression, the symlink layer and HTTP are left out, since no grouping changes them much.

use crate::{Closure, StorePath, cache_key::CacheKey};
use std::collections::HashSet;

/// Counts what a client fetches that pulls one image after the other and forgets nothing.
#[derive(Debug, Clone, Default)]
pub struct Scorer {
    paths: HashSet<StorePath>,
    layers: HashSet<CacheKey>,
    chains: HashSet<CacheKey>,
    score: Score,
    layers_total: usize,
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
    /// Layers per image, on average.
    pub layers_mean: f64,
    /// Layers of the image that has most.
    pub layers_max: usize,
}

impl Scorer {
    /// Pulls an image whose layers, bottom first, are these groups of the closure.
    pub fn pull(&mut self, closure: &Closure, groups: &[Vec<usize>]) {
        for path in closure.paths() {
            if self.paths.insert(path.path.clone()) {
                self.score.distinct_bytes += path.nar_size;
            }
        }
        let mut below: Option<CacheKey> = None;
        for group in groups {
            let members = || group.iter().map(|&i| &closure.paths()[i]);
            let bytes: u64 = members().map(|path| path.nar_size).sum();
            let mut names: Vec<&str> = members().map(|path| path.path.as_str()).collect();
            names.sort_unstable();
            let layer = CacheKey::builder("layer").list(names.into_iter()).build();
            let mut chain = CacheKey::builder("chain").field(layer.to_string());
            if let Some(below) = below {
                chain = chain.field(below.to_string());
            }
            let chain = chain.build();
            below = Some(chain);
            if self.layers.insert(layer) {
                self.score.transferred_bytes += bytes;
            }
            if self.chains.insert(chain) {
                self.score.chain_transferred_bytes += bytes;
            }
        }
        self.score.images += 1;
        self.layers_total += groups.len();
        self.score.layers_max = self.score.layers_max.max(groups.len());
    }

    /// What was fetched so far.
    pub fn score(&self) -> Score {
        let images = self.score.images.max(1) as f64;
        Score { layers_mean: self.layers_total as f64 / images, ..self.score }
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

    fn per_distinct_byte(&self, bytes: u64) -> f64 {
        if self.distinct_bytes == 0 { 1.0 } else { bytes as f64 / self.distinct_bytes as f64 }
    }
}
