//! Packages that others bring along: `nix-support/propagated-user-env-packages`.

use super::Tree;
use std::collections::{BTreeMap, BTreeSet};

/// These trees, each path once, and after them what they propagate, directly and through others.
///
/// The order is that of `builtin:buildenv`: first what the trees name, sorted by path, then what those name, and so on.
pub(super) fn with_propagated<'a>(trees: &[Tree<'a>]) -> Vec<Tree<'a>> {
    let mut done = BTreeSet::new();
    let mut all: Vec<Tree<'a>> = Vec::new();
    let mut round: Vec<Tree<'a>> = trees.to_vec();
    while !round.is_empty() {
        let mut next = BTreeMap::new();
        for tree in round {
            if !done.insert(tree.path) {
                continue;
            }
            all.push(tree);
            let own = tree.listing.roots().iter().find(|root| root.path == *tree.path);
            for path in own.into_iter().flat_map(|root| &root.propagated) {
                next.entry(path).or_insert(Tree { path, listing: tree.listing });
            }
        }
        round = next.into_values().collect();
    }
    all
}
