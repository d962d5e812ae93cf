//! Packages that other packages propagate: `nix-support/propagated-user-env-packages`.

use super::PackageFiles;
use std::collections::{BTreeMap, BTreeSet};

/// These trees, followed by the trees that they propagate, directly or not. Each path occurs once.
///
/// The order is that of `builtin:buildenv`: first the paths that the trees propagate, sorted by path, then the paths
/// that those propagate, and so on.
pub(super) fn with_propagated<'a>(trees: &[PackageFiles<'a>]) -> Vec<PackageFiles<'a>> {
    let mut done = BTreeSet::new();
    let mut all: Vec<PackageFiles<'a>> = Vec::new();
    let mut round: Vec<PackageFiles<'a>> = trees.to_vec();
    while !round.is_empty() {
        let mut next = BTreeMap::new();
        for tree in round {
            if !done.insert(tree.path) {
                continue;
            }
            all.push(tree);
            let own = tree.listing.roots().iter().find(|root| root.path == *tree.path);
            for path in own.into_iter().flat_map(|root| &root.propagated) {
                next.entry(path).or_insert(PackageFiles { path, listing: tree.listing });
            }
        }
        round = next.into_values().collect();
    }
    all
}
