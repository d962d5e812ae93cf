//! Which members of a package set travel together, counted over the closures of all its packages.

use crate::Closure;
use std::{cmp::Reverse, collections::BTreeMap};

/// A path joins a dependent when this share of the closures that have the path have the dependent too.
/// Stricter makes more layers, laxer makes groups that differ between images.
const NEARLY_ALWAYS: (u64, u64) = (97, 100);

/// What is counted of one member.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    /// How many members have it in their closure, itself included.
    within: u64,
    /// How many members its own closure has.
    closure_len: usize,
}

/// The groups, most worth having at the bottom of an image first.
pub(super) fn groups(set: &Closure) -> Vec<Vec<usize>> {
    let counts = counts(set);
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, owner) in owners(set, &counts).into_iter().enumerate() {
        groups.entry(owner).or_default().push(i);
    }
    let mut weighed: Vec<(f64, usize, Vec<usize>)> =
        groups.into_iter().map(|(owner, members)| (reuse(set, &counts, &members), owner, members)).collect();
    weighed.sort_by(|(a, x, _), (b, y, _)| b.total_cmp(a).then(x.cmp(y)));
    weighed.into_iter().map(|(_, _, members)| members).collect()
}

/// Size × odds that an image of two packages has it: for independent layers of size s and probability p,
/// s·p/(1−p) descending is the order with the longest expected prefix in common.
fn reuse(set: &Closure, counts: &[Count], members: &[usize]) -> f64 {
    let size: u64 = members.iter().map(|&i| set.paths()[i].nar_size).sum();
    let within = members.iter().map(|&i| counts[i].within).max().unwrap_or(0);
    let without = 1.0 - within as f64 / (set.len() + 1) as f64;
    size as f64 * (1.0 / (without * without) - 1.0)
}

/// The member whose group each member is in.
fn owners(set: &Closure, counts: &[Count]) -> Vec<usize> {
    let nearly_always =
        |of: usize, with: usize| counts[with].within * NEARLY_ALWAYS.1 >= counts[of].within * NEARLY_ALWAYS.0;
    // The dependent that a member is most often seen with. A dependent has the larger closure; in a cycle the
    // earlier path counts as larger, so that following dependents comes to an end.
    let mut dependents: Vec<Option<usize>> = vec![None; set.len()];
    for (from, path) in set.paths().iter().enumerate() {
        for &to in &path.references {
            let above = |i: usize| (counts[i].closure_len, Reverse(i));
            let better = dependents[to].is_none_or(|best| counts[from].within > counts[best].within);
            if above(from) > above(to) && better {
                dependents[to] = Some(from);
            }
        }
    }
    let mut order: Vec<usize> = (0..set.len()).collect();
    order.sort_unstable_by_key(|&i| (Reverse(counts[i].closure_len), i));
    let mut owners: Vec<usize> = (0..set.len()).collect();
    for i in order {
        // Drift is limited by comparing with the owner of the whole group.
        if let Some(owner) = dependents[i].map(|dependent| owners[dependent])
            && nearly_always(i, owner)
        {
            owners[i] = owner;
        }
    }
    owners
}

fn counts(set: &Closure) -> Vec<Count> {
    let mut counts = vec![Count::default(); set.len()];
    let mut seen_from = vec![usize::MAX; set.len()];
    let mut reached = Vec::new();
    for start in 0..set.len() {
        reached.clear();
        reached.push(start);
        seen_from[start] = start;
        let mut next = 0;
        while let Some(&i) = reached.get(next) {
            next += 1;
            counts[i].within += 1;
            for &to in &set.paths()[i].references {
                if seen_from[to] != start {
                    seen_from[to] = start;
                    reached.push(to);
                }
            }
        }
        counts[start].closure_len = reached.len();
    }
    counts
}
