//! Nixery's strategy: subtrees of the dominator tree, merged by popularity × size.
//!
//! The layers depend on the whole image, so the same store path can be in different layers in different images. The
//! strategy is not the default; it exists for comparison. `docs/layering.md` says where it differs from Nixery.

use super::{Grouping, Layer, Layers, Part, Strategy, heads::references_first};
use crate::{Closure, cache_key::CacheKey};
use petgraph::{algo::dominators, graph::DiGraph};
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, collections::BTreeMap};

/// The number of other store paths that refer to a store path, by the path's name (`git-2.39.5`).
///
/// As JSON this is a map from names to counts. `firn popularity` writes it, and Nixery can read it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PopularityCounts(BTreeMap<String, u64>);

/// Takes the subtrees of the closure's dominator tree as layers, and merges them until they fit the budget.
#[derive(Debug, Clone)]
pub struct Popularity {
    counts: PopularityCounts,
    /// The smallest count of the top percentile. `None` if there are no counts.
    threshold: Option<u64>,
}

/// A store path with a larger closure gets a layer of its own. In bytes; the value is Nixery's.
const BIG_CLOSURE: u64 = 100_000_000;

impl PopularityCounts {
    /// The count of the paths of this name; 1 if there is none, as in Nixery.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(1)
    }

    /// The smallest count of the top percentile.
    fn top_percentile(&self) -> Option<u64> {
        let mut counts: Vec<u64> = self.0.values().copied().collect();
        counts.sort_unstable();
        counts.get(counts.len().saturating_sub(1).min(counts.len() * 99 / 100)).copied()
    }
}

impl FromIterator<(String, u64)> for PopularityCounts {
    /// Counts of the same name add up.
    fn from_iter<I: IntoIterator<Item = (String, u64)>>(counts: I) -> Self {
        let mut sums = BTreeMap::new();
        for (name, count) in counts {
            let sum: &mut u64 = sums.entry(name).or_default();
            *sum = sum.saturating_add(count);
        }
        Self(sums)
    }
}

impl Popularity {
    /// The strategy with these counts.
    pub fn new(counts: PopularityCounts) -> Self {
        Self { threshold: counts.top_percentile(), counts }
    }

    /// The subtrees below the root of the dominator tree: maps the top of each subtree to its members.
    ///
    /// The root stands for the image. It refers to every member that no other member refers to. It also refers to
    /// popular members and to those with a large closure, so that these become the tops of subtrees of their own.
    fn subtrees(&self, closure: &Closure) -> BTreeMap<usize, Vec<usize>> {
        let paths = closure.paths();
        let big = big_closures(closure);
        let mut graph = DiGraph::<(), (), usize>::with_capacity(paths.len() + 1, 0);
        let nodes: Vec<_> = paths.iter().map(|_| graph.add_node(())).collect();
        let root = graph.add_node(());
        let mut referred = vec![false; paths.len()];
        for (from, path) in paths.iter().enumerate() {
            for &to in &path.references {
                referred[to] = true;
                graph.add_edge(nodes[from], nodes[to], ());
            }
        }
        for (i, path) in paths.iter().enumerate() {
            let popular = self.threshold.is_some_and(|least| self.counts.of(path.path.name()) >= least);
            if !referred[i] || popular || big[i] {
                graph.add_edge(root, nodes[i], ());
            }
        }
        let dominators = dominators::simple_fast(&graph, root);
        let mut subtrees: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, &node) in nodes.iter().enumerate() {
            // The root does not reach a cycle to which nothing else refers. Each member of such a cycle is a subtree.
            let top = dominators.dominators(node).and_then(|up| up.take_while(|&up| up != root).last());
            subtrees.entry(top.unwrap_or(node).index()).or_default().push(i);
        }
        subtrees
    }
}

/// Which members have a closure larger than [`BIG_CLOSURE`].
///
/// The closures of a member's references give an upper bound (their sum) and sometimes the answer (one of them is big).
/// Only if neither decides is the member's own closure walked, and never further than the threshold.
fn big_closures(closure: &Closure) -> Vec<bool> {
    let paths = closure.paths();
    let mut big = vec![false; paths.len()];
    // An upper bound for the closure's size in bytes. `u64::MAX` if it is not known yet, as in a cycle.
    let mut bound = vec![u64::MAX; paths.len()];
    let mut seen_from = vec![usize::MAX; paths.len()];
    for start in references_first(closure) {
        let references = &paths[start].references;
        bound[start] =
            references.iter().fold(paths[start].nar_size, |sum, &to| sum.saturating_add(bound[to]));
        if bound[start] <= BIG_CLOSURE {
            continue;
        }
        let mut size = 0u64;
        let mut next = vec![start];
        seen_from[start] = start;
        while let Some(i) = next.pop() {
            size = size.saturating_add(paths[i].nar_size);
            if size > BIG_CLOSURE || big[i] {
                big[start] = true;
                break;
            }
            for &to in &paths[i].references {
                if seen_from[to] != start {
                    seen_from[to] = start;
                    next.push(to);
                }
            }
        }
        if !big[start] {
            bound[start] = size;
        }
    }
    big
}

impl Strategy for Popularity {
    fn layers(&self, closure: &Closure, _parts: &[Part], budget: usize) -> Layers {
        let paths = closure.paths();
        let mut rated: Vec<(u128, Vec<usize>, Grouping)> = self
            .subtrees(closure)
            .into_iter()
            .map(|(top, members)| {
                let size: u128 = members.iter().map(|&i| u128::from(paths[i].nar_size)).sum();
                let rating = u128::from(self.counts.of(paths[top].path.name())).saturating_mul(size);
                (rating, members, Grouping::Below(top))
            })
            .collect();
        rated.sort_unstable_by(|(a, x, _), (b, y, _)| (a, x).cmp(&(b, y)));
        // All merged subtrees end up in one group, because each merge joins the lowest two and the result stays lowest.
        // Nixery does the same: it does not sort again after a merge.
        let merged = rated.len().saturating_sub(budget.max(1)) + 1;
        if merged > 1 {
            let lowest: Vec<_> = rated.drain(..merged).collect();
            let rating = lowest.iter().fold(0, |sum: u128, (rating, ..)| sum.saturating_add(*rating));
            let mut members: Vec<usize> = lowest.into_iter().flat_map(|(_, members, _)| members).collect();
            members.sort_unstable();
            rated.push((rating, members, Grouping::Merged));
        }
        rated.sort_unstable_by_key(|(rating, members, _)| (Reverse(*rating), members[0]));
        let layers = rated.into_iter().map(|(_, members, reason)| Layer { members, reason }).collect();
        Layers { layers, step: None }
    }

    fn version(&self) -> String {
        let counts = CacheKey::builder("popularity-counts-1")
            .list(self.counts.0.iter().map(|(name, count)| format!("{name}\0{count}")))
            .build();
        format!("popularity-1-{counts}")
    }
}
