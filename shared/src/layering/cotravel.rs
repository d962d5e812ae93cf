//! Which members of a package set travel together: agglomerative clustering by what a shared layer costs.
//!
//! Two paths in one layer save a layer wherever both are. They cost bytes wherever only one is, because the
//! layer with both is then another than the layer with one. Clusters are merged while that is cheap.
//!
//! What counts is not the image but its stages ([`super::plan`]): paths that one image brings at different stages
//! have different layers there, as if they were in different images.

use super::imagined::{PackageSet, seen};
use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
};

/// What a merge may cost, in bytes that such a client fetches in vain for each layer saved. More makes fewer
/// layers, and wastes more; `docs/layering.md` has the figures.
const BYTES_PER_LAYER: f64 = 1e7;
/// What it costs to break the chain of layers, beside the layers themselves, in bytes: on a client that keeps
/// layers only on top of the same layers, everything above a layer that changes is fetched again.
const CHAIN_BYTES: f64 = 3e5;
/// What is in fewer stages than this is too rare to be judged, and stays alone.
const RARE: usize = 32;

#[derive(Debug)]
struct Cluster {
    members: Vec<usize>,
    /// The stages that have any of the members, one bit each.
    stages: Vec<u64>,
    /// The same stages, ascending, each with which of [`Cluster::versions`] it has.
    held: Vec<(u32, u32)>,
    versions: Vec<Version>,
}

/// Some of a cluster's members: what one layer would hold.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Version {
    /// How many stages have exactly these members.
    stages: u32,
    /// Their size, in bytes.
    bytes: u64,
}

/// A merge that could be made.
#[derive(Debug, PartialEq)]
struct Merge {
    /// In bytes for each layer saved.
    cost: f64,
    /// Whether the cost is that, or at least that.
    exact: bool,
    clusters: (usize, usize),
}

/// The clusters of the members that are not rare, each with two members or more; nobody is in two.
///
/// `stages` are those of so many images, each the members that it brings.
pub(super) fn clusters(set: &PackageSet<'_>, images: usize, stages: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let prices = Prices::new(images);
    let mut clusters = singles(set, stages);
    let mut merges = BinaryHeap::new();
    for a in 0..clusters.len() {
        for b in a + 1..clusters.len() {
            // They are sorted by count, and the larger the difference, the more a merge costs.
            if prices.is_hopeless(&clusters[a], &clusters[b]) {
                break;
            }
            merges.extend(prices.estimate(&clusters, a, b));
        }
    }
    let mut alive = vec![true; clusters.len()];
    while let Some(Merge { exact, clusters: (a, b), .. }) = merges.pop() {
        if !alive[a] || !alive[b] {
            continue;
        }
        if !exact {
            merges.extend(prices.cost(&clusters, a, b));
            continue;
        }
        (alive[a], alive[b]) = (false, false);
        let merged = clusters[a].with(&clusters[b]);
        let new = clusters.len();
        clusters.push(merged);
        alive.push(true);
        let others = (0..new).filter(|&other| alive[other]);
        merges.extend(others.filter_map(|other| prices.estimate(&clusters, other, new)));
    }
    let kept = clusters.into_iter().zip(alive).filter(|(_, alive)| *alive);
    kept.map(|(cluster, _)| cluster.members).filter(|members| members.len() > 1).collect()
}

/// A cluster for each member that is not rare, rarest first.
fn singles(set: &PackageSet<'_>, stages: &[Vec<usize>]) -> Vec<Cluster> {
    let words = stages.len().div_ceil(64);
    let mut held: Vec<Vec<(u32, u32)>> = vec![Vec::new(); set.members().len()];
    for (stage, brought) in (0..).zip(stages) {
        brought.iter().for_each(|&i| held[i].push((stage, 0)));
    }
    let mut clusters: Vec<Cluster> = held
        .into_iter()
        .enumerate()
        .filter(|(_, held)| held.len() >= RARE)
        .map(|(i, held)| {
            let mut having = vec![0; words];
            held.iter().for_each(|(stage, _)| having[*stage as usize / 64] |= 1 << (stage % 64));
            let versions = vec![Version { stages: held.len() as u32, bytes: set.members()[i].size }];
            Cluster { members: vec![i], stages: having, held, versions }
        })
        .collect();
    clusters.sort_by_key(|cluster| (cluster.held.len(), cluster.members[0]));
    clusters
}

/// What merges cost.
#[derive(Debug)]
struct Prices {
    images: f64,
    /// How likely a client is to have seen what so many of the images have.
    seen: Vec<f64>,
}

impl Prices {
    fn new(images: usize) -> Self {
        Self { images: images as f64, seen: seen(images) }
    }

    /// How likely a client is to have seen what so many stages have; an image may bring a cluster in several.
    fn seen(&self, stages: usize) -> f64 {
        self.seen[stages.min(self.seen.len() - 1)]
    }

    /// What may be fetched in vain to save a layer in so many stages.
    fn budget(&self, stages: usize) -> f64 {
        BYTES_PER_LAYER * stages as f64 / self.images
    }

    /// What it costs that a layer of so many bytes, which `all` stages have, is in `with` of them another than
    /// in the rest.
    fn split(&self, bytes: f64, with: usize, all: usize) -> f64 {
        (bytes + CHAIN_BYTES) * (self.seen(all - with) + self.seen(with) - self.seen(all))
    }

    /// Whether a cluster in `few` images cannot be merged with one in many more, whatever their sizes.
    fn is_hopeless(&self, few: &Cluster, many: &Cluster) -> bool {
        self.split(0.0, few.held.len(), many.held.len()) > self.budget(few.held.len())
    }

    /// The least that the merge can cost, unless that is too much.
    fn estimate(&self, clusters: &[Cluster], a: usize, b: usize) -> Option<Merge> {
        let (x, y) = (&clusters[a], &clusters[b]);
        let (few, many) = if x.held.len() <= y.held.len() { (x, y) } else { (y, x) };
        if self.is_hopeless(few, many) {
            return None;
        }
        let both: u32 = x.stages.iter().zip(&y.stages).map(|(x, y)| (x & y).count_ones()).sum();
        let both = both as usize;
        let waste = |cluster: &Cluster| self.split(cluster.smallest(), both, cluster.held.len());
        self.merge(waste(x) + waste(y), both, false, (a, b))
    }

    /// What the merge costs, unless that is too much.
    fn cost(&self, clusters: &[Cluster], a: usize, b: usize) -> Option<Merge> {
        let (x, y) = (&clusters[a], &clusters[b]);
        let mut joint: HashMap<(Option<u32>, Option<u32>), usize> = HashMap::new();
        let mut both = 0;
        for (_, x, y) in x.beside(y) {
            *joint.entry((x, y)).or_default() += 1;
            both += usize::from(x.is_some() && y.is_some());
        }
        // Each version of either is split by what the other is beside it.
        let mut joint: Vec<_> = joint.into_iter().collect();
        joint.sort_unstable();
        let whole = |cluster: &Cluster| -> f64 {
            let fetched = |version: &Version| version.exposed() * self.seen(version.stages as usize);
            cluster.versions.iter().map(fetched).sum()
        };
        let split: f64 = joint
            .into_iter()
            .map(|((v, w), stages)| {
                let exposed = |cluster: &Cluster, version: Option<u32>| {
                    version.map_or(0.0, |version| cluster.versions[version as usize].exposed())
                };
                (exposed(x, v) + exposed(y, w)) * self.seen(stages)
            })
            .sum();
        self.merge(split - whole(x) - whole(y), both, true, (a, b))
    }

    fn merge(&self, waste: f64, both: usize, exact: bool, clusters: (usize, usize)) -> Option<Merge> {
        let merge = Merge { cost: waste / (both as f64 / self.images), exact, clusters };
        (both > 0 && merge.cost <= BYTES_PER_LAYER).then_some(merge)
    }
}

impl Version {
    /// What is fetched again when the layer is another: itself, and something of what is above it.
    fn exposed(&self) -> f64 {
        self.bytes as f64 + CHAIN_BYTES
    }
}

impl Cluster {
    fn smallest(&self) -> f64 {
        self.versions.iter().map(|version| version.bytes).min().unwrap_or(0) as f64
    }

    /// Each stage that has any of either cluster, with the versions that it has of both.
    fn beside(&self, other: &Self) -> Vec<(u32, Option<u32>, Option<u32>)> {
        let mut rows = Vec::with_capacity(self.held.len() + other.held.len());
        let (mut xs, mut ys) = (self.held.iter().peekable(), other.held.iter().peekable());
        loop {
            let stage = match (xs.peek(), ys.peek()) {
                (Some(x), Some(y)) => x.0.min(y.0),
                (Some(x), None) => x.0,
                (None, Some(y)) => y.0,
                (None, None) => return rows,
            };
            let x = xs.next_if(|x| x.0 == stage).map(|x| x.1);
            let y = ys.next_if(|y| y.0 == stage).map(|y| y.1);
            rows.push((stage, x, y));
        }
    }

    fn with(&self, other: &Self) -> Self {
        let bytes = |cluster: &Self, version: Option<u32>| {
            version.map_or(0, |version| cluster.versions[version as usize].bytes)
        };
        let mut numbers = HashMap::new();
        let mut versions: Vec<Version> = Vec::new();
        let mut held = Vec::new();
        for (stage, x, y) in self.beside(other) {
            let number = *numbers.entry((x, y)).or_insert(versions.len());
            if number == versions.len() {
                versions.push(Version { stages: 0, bytes: bytes(self, x).saturating_add(bytes(other, y)) });
            }
            versions[number].stages += 1;
            held.push((stage, number as u32));
        }
        Self {
            members: self.members.iter().chain(&other.members).copied().collect(),
            stages: self.stages.iter().zip(&other.stages).map(|(x, y)| x | y).collect(),
            held,
            versions,
        }
    }
}

impl Eq for Merge {}

impl Ord for Merge {
    /// The cheapest is greatest, and comes first out of a heap.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_cost = other.cost.total_cmp(&self.cost);
        by_cost.then_with(|| other.clusters.cmp(&self.clusters)).then_with(|| self.exact.cmp(&other.exact))
    }
}

impl PartialOrd for Merge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
