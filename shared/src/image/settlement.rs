//! Decides which content a store path has in an image if the records of its packages disagree.
//!
//! Builds are not always reproducible. If a Nix store loses a path and builds it again, or if two backends build it,
//! the path can get different bytes. Then records of different times name different contents of one path. For Nix all
//! these contents are the same path, so an image may have any of them, but only one.
//!
//! **The rule.** The content that was chosen most often wins ([`PackageRecord::decided`]); among equals, the content
//! with the smallest NAR hash. The rule depends only on the records, so every backend and every edge chooses the same
//! content. Records that are updated by the rule ([`Settlement::renewed`]) stay in agreement, whatever other images
//! do.
//!
//! **What the rule cannot decide.** For some paths a record also lists files: those in its outputs, and those in
//! directories to which links in the outputs lead. It also says which path has `bin/sh`, `bin/env` or time zones. If
//! such a path's content loses, the records do not say what files the winning content has. The rule also does not
//! apply if the contents refer to different paths. In these cases a backend makes the records anew from its Nix
//! store. It does the same if the winning content must be packed but is in no Nix store any more. [`decide`] marks
//! the new contents in these records as chosen, so that they win over other records.

use crate::{
    StorePath,
    naming::package::PackageRecord,
    nix::closure::{Closure, ClosureError, PathInfo},
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The chosen content for each store path of some packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement<'a> {
    contents: BTreeMap<&'a StorePath, Content<'a>>,
}

/// A record's entry for one store path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content<'a> {
    info: &'a PathInfo,
    /// How often a content was chosen for the path; see [`PackageRecord::decided`].
    decided: u32,
}

impl Content<'_> {
    fn is(&self, other: &PathInfo) -> bool {
        self.info.nar_hash == other.nar_hash
    }

    /// The content with the greatest rank wins.
    fn rank(&self) -> impl Ord {
        (self.decided, Reverse(*self.info.nar_hash.as_bytes()))
    }
}

/// The record's entries for all of its store paths.
fn contents(record: &PackageRecord) -> impl Iterator<Item = Content<'_>> {
    record.closure.iter().map(|info| Content { info, decided: decided(record, &info.path) })
}

fn decided(record: &PackageRecord, path: &StorePath) -> u32 {
    record.decided.get(path).copied().unwrap_or_default()
}

/// The winning content for each store path.
fn winners<'a>(records: &[&'a PackageRecord]) -> BTreeMap<&'a StorePath, Content<'a>> {
    let mut winners: BTreeMap<&StorePath, Content<'_>> = BTreeMap::new();
    for content in records.iter().copied().flat_map(contents) {
        let winner = winners.entry(&content.info.path).or_insert(content);
        if content.rank() > winner.rank() {
            *winner = content;
        }
    }
    winners
}

fn references(info: &PathInfo) -> BTreeSet<&StorePath> {
    info.references.iter().collect()
}

impl<'a> Settlement<'a> {
    /// The settlement of these records. Their order does not matter.
    ///
    /// # Errors
    /// [`ClosureError::Contradiction`] if a path has two contents and the records do not say enough about the winning
    /// one.
    pub fn new(records: &[&'a PackageRecord]) -> Result<Self, ClosureError> {
        let contents = winners(records);
        for record in records {
            for info in &record.closure {
                let winner = &contents[&info.path];
                if winner.is(info) {
                    continue;
                }
                if references(winner.info) != references(info)
                    || !is_known(&info.path, record, records, winner)
                {
                    return Err(ClosureError::Contradiction(info.path.clone()));
                }
            }
        }
        Ok(Self { contents })
    }

    /// The closure of all packages.
    ///
    /// # Errors
    /// If a reference has no record.
    fn closure(&self) -> Result<Closure, ClosureError> {
        Closure::new(self.contents.values().map(|content| content.info))
    }

    /// The record, updated with the chosen contents. `None` if it has them already.
    pub fn renewed(&self, record: &PackageRecord) -> Option<PackageRecord> {
        let mut renewed = record.clone();
        for info in &mut renewed.closure {
            let Some(winner) = self.contents.get(&info.path) else { continue };
            if winner.decided > 0 {
                renewed.decided.insert(info.path.clone(), winner.decided);
            } else {
                renewed.decided.remove(&info.path);
            }
            *info = winner.info.clone();
        }
        (renewed != *record).then_some(renewed)
    }
}

/// The closure of these packages, with one content for each path.
///
/// # Errors
/// If a reference has no record, or as for [`Settlement::new`].
pub fn closure(records: &[&PackageRecord]) -> Result<Closure, ClosureError> {
    match Closure::new(records.iter().flat_map(|record| &record.closure)) {
        Err(ClosureError::Contradiction(_)) => Settlement::new(records)?.closure(),
        closure => closure,
    }
}

/// Whether everything that a record says about a path is also known for the winning content.
fn is_known(
    path: &StorePath,
    record: &PackageRecord,
    records: &[&PackageRecord],
    winner: &Content<'_>,
) -> bool {
    // The files that the record lists may differ from those of the winning content.
    let mut listed = record.listing.roots().iter().map(|root| &root.path);
    let mut linked = record.listing.targets().iter().map(|target| &target.path);
    let is_listed = listed.any(|listed| listed == path) || linked.any(|linked| linked == path);
    let has = |claim: fn(&PackageRecord) -> Option<&StorePath>| {
        let claims = |record: &PackageRecord| claim(record) == Some(path);
        let is_winner = |record: &&&PackageRecord| {
            record.closure.iter().any(|info| info.path == *path && winner.is(info))
        };
        !claims(record) || records.iter().filter(is_winner).any(|record| claims(record))
    };
    !is_listed
        && has(|record| record.sh.as_ref())
        && has(|record| record.env.as_ref())
        && has(|record| record.zoneinfo.as_ref())
}

/// Marks the contents of a record that was just made from a Nix store as chosen, so that they win over the contents in
/// the records before.
pub fn decide(new: &mut PackageRecord, before: &[&PackageRecord]) {
    let before = winners(before);
    let decided = new.closure.iter().filter_map(|info| {
        let winner = before.get(&info.path)?;
        let decided = winner.decided.saturating_add(u32::from(!winner.is(info)));
        (decided > 0).then(|| (info.path.clone(), decided))
    });
    new.decided = decided.collect();
}

#[cfg(test)]
mod tests;
