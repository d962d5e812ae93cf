//! Which members of a package set travel together: agglomerative clustering by what a shared layer costs.
//!
//! Two paths in one layer save a layer wherever both are. They cost bytes wherever only one is, because the
//! layer with both is then another than the layer with one. Clusters are merged while that is cheap.

use super::imagined::{Imagined, power};
use std::{cmp::Ordering, collections::BinaryHeap};

/// A client that has pulled so many images tells what a layer costs it.
const CLIENT_IMAGES: u64 = 200;
/// What a merge may cost, in bytes that such a client fetches in vain for each layer saved. Larger values make
/// fewer layers and fetch more: on the workloads in `tests/data/layering`, 4 MB make 53 layers on average and
/// 8 MB make 47, while 12 MB make 43 and fetch 1 % more.
const BYTES_PER_LAYER: f64 = 8e6;
/// What it costs to break the chain of layers, beside the layers themselves, in bytes: on a client that keeps
/// layers only on top of the same layers, everything above a layer that changes is fetched again.
const CHAIN_BYTES: f64 = 1e6;
/// What is in fewer imagined images than this is too rare to be judged, and stays alone.
const RARE: u32 = 16;

#[derive(Debug)]
struct Cluster {
    members: Vec<usize>,
    /// The images that have any of the members, one bit each.
    images: Vec<u64>,
    /// How many those are.
    count: u32,
    /// The sizes of the members in all those images together, in bytes.
    bytes: u64,
}

/// A merge that could be made.
#[derive(Debug, PartialEq)]
struct Merge {
    cost: f64,
    clusters: (usize, usize),
}

/// The clusters of the members that are not rare, each with two members or more; nobody is in two.
pub(super) fn clusters(imagined: &Imagined<'_>) -> Vec<Vec<usize>> {
    let total = imagined.images.len();
    // A client has seen what is in `count` of the images with this probability.
    let seen: Vec<f64> = (0..=total)
        .map(|count| 1.0 - power(1.0 - count as f64 / total.max(1) as f64, CLIENT_IMAGES))
        .collect();
    let price = |images: u32| BYTES_PER_LAYER * f64::from(images) / total as f64;
    // What it costs, in bytes, that something which is in `all` images is once with its company and once
    // without.
    let split = |bytes: f64, with: u32, all: u32| {
        bytes * (seen[(all - with) as usize] + seen[with as usize] - seen[all as usize])
    };
    let merge = |clusters: &[Cluster], a: usize, b: usize| {
        let (few, many) = if clusters[a].count <= clusters[b].count { (a, b) } else { (b, a) };
        let (few, many) = (&clusters[few], &clusters[many]);
        // Cheap and nearly always decisive: at best, the rarer one never goes alone.
        if split(many.exposed_bytes(), few.count, many.count) > price(few.count) {
            return None;
        }
        let both = few.images.iter().zip(&many.images).map(|(x, y)| (x & y).count_ones()).sum();
        let waste =
            split(few.exposed_bytes(), both, few.count) + split(many.exposed_bytes(), both, many.count);
        let cost = waste / (f64::from(both) / total as f64);
        (both > 0 && cost <= BYTES_PER_LAYER).then_some(Merge { cost, clusters: (a, b) })
    };

    let mut clusters = singles(imagined);
    let mut merges = BinaryHeap::new();
    for a in 0..clusters.len() {
        for b in a + 1..clusters.len() {
            // They are sorted by count, and the larger the difference, the more a merge costs.
            if split(CHAIN_BYTES, clusters[a].count, clusters[b].count) > price(clusters[a].count) {
                break;
            }
            merges.extend(merge(&clusters, a, b));
        }
    }
    let mut alive = vec![true; clusters.len()];
    while let Some(Merge { clusters: (a, b), .. }) = merges.pop() {
        if !alive[a] || !alive[b] {
            continue;
        }
        (alive[a], alive[b]) = (false, false);
        let merged = clusters[a].with(&clusters[b]);
        let new = clusters.len();
        clusters.push(merged);
        alive.push(true);
        merges
            .extend((0..new).filter(|&other| alive[other]).filter_map(|other| merge(&clusters, other, new)));
    }
    let kept = clusters.into_iter().zip(alive).filter(|(_, alive)| *alive);
    kept.map(|(cluster, _)| cluster.members).filter(|members| members.len() > 1).collect()
}

/// A cluster for each member that is not rare, rarest first.
fn singles(imagined: &Imagined<'_>) -> Vec<Cluster> {
    let words = imagined.images.len().div_ceil(64);
    let mut drawn = vec![0u32; imagined.set.len()];
    for &i in imagined.images.iter().flatten() {
        drawn[i] += 1;
    }
    let mut members: Vec<usize> = (0..drawn.len()).filter(|&i| drawn[i] >= RARE).collect();
    members.sort_by_key(|&i| (drawn[i], i));
    let mut clusters: Vec<Cluster> = members
        .iter()
        .map(|&i| Cluster {
            members: vec![i],
            images: vec![0; words],
            count: drawn[i],
            bytes: u64::from(drawn[i]) * imagined.set.paths()[i].nar_size,
        })
        .collect();
    let mut cluster_of = vec![None; drawn.len()];
    for (cluster, &i) in members.iter().enumerate() {
        cluster_of[i] = Some(cluster);
    }
    for (image, contents) in imagined.images.iter().enumerate() {
        for cluster in contents.iter().filter_map(|&i| cluster_of[i]) {
            clusters[cluster].images[image / 64] |= 1 << (image % 64);
        }
    }
    clusters
}

impl Cluster {
    /// What is fetched again when the cluster changes, in bytes: itself, and something of what is above.
    fn exposed_bytes(&self) -> f64 {
        self.bytes as f64 / f64::from(self.count) + CHAIN_BYTES
    }

    fn with(&self, other: &Self) -> Self {
        let images: Vec<u64> = self.images.iter().zip(&other.images).map(|(x, y)| x | y).collect();
        Self {
            members: self.members.iter().chain(&other.members).copied().collect(),
            count: images.iter().map(|word| word.count_ones()).sum(),
            images,
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl Eq for Merge {}

impl Ord for Merge {
    /// The cheapest is greatest, and comes first out of a heap.
    fn cmp(&self, other: &Self) -> Ordering {
        other.cost.total_cmp(&self.cost).then_with(|| other.clusters.cmp(&self.clusters))
    }
}

impl PartialOrd for Merge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
