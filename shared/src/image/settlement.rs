//! Which content a store path has in an image, where the records of its packages disagree.
//!
//! Builds are not always reproducible. When a Nix store loses a path and builds it again, or when two backends build
//! it, the path can come with other bytes. Records that were written before and after then name different contents
//! of one path. Nix takes all of them for the same path, and so an image may have any of them, but only one.
//!
//! **The rule.** Of the contents that the records name, the one that was decided most often wins
//! ([`PackageRecord::decided`]); among those the one with the smallest NAR hash. It depends on the records alone, so
//! every backend and every edge comes to the same content. Records that are brought in line by it
//! ([`Settlement::renewed`]) stay in line, whatever other images do.
//!
//! **What it does not decide.** A record says more about some paths than their bytes: what lies below its outputs and
//! below the directories that links in them lead to, and which path has `bin/sh`, `bin/env` or time zones. When the
//! content that it says this about loses, nobody can tell from records what the other content has. The same goes for contents that refer to different paths. Then, and when the content that wins
//! has to be packed and is in no Nix store any more, a backend makes the records anew from what its Nix store has.
//! [`decide`] marks in them that this was decided, so that it wins over what others still have on record.

use crate::{
    StorePath,
    naming::package::PackageRecord,
    nix::closure::{Closure, ClosureError, PathInfo},
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// One content for each path of some packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement<'a> {
    contents: BTreeMap<&'a StorePath, Content<'a>>,
}

/// What a record says about one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content<'a> {
    info: &'a PathInfo,
    /// How often it was decided that the path has this content.
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

/// All that a record says about paths.
fn contents(record: &PackageRecord) -> impl Iterator<Item = Content<'_>> {
    record.closure.iter().map(|info| Content { info, decided: decided(record, &info.path) })
}

fn decided(record: &PackageRecord, path: &StorePath) -> u32 {
    record.decided.get(path).copied().unwrap_or_default()
}

/// The content that wins for each path.
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
    /// The settlement between these records, in whatever order they come.
    ///
    /// # Errors
    /// [`ClosureError::Contradiction`] when a path has two contents and the records do not say enough about the one
    /// that wins.
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

    /// The closure of all the packages.
    ///
    /// # Errors
    /// When a reference leads out of the records.
    fn closure(&self) -> Result<Closure, ClosureError> {
        Closure::new(self.contents.values().map(|content| content.info))
    }

    /// What one of the records should say; nothing when it says that already.
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

/// The closure of these packages, in which each path has one content.
///
/// # Errors
/// When a reference leads out of the records, and as [`Settlement::new`].
pub fn closure(records: &[&PackageRecord]) -> Result<Closure, ClosureError> {
    match Closure::new(records.iter().flat_map(|record| &record.closure)) {
        Err(ClosureError::Contradiction(_)) => Settlement::new(records)?.closure(),
        closure => closure,
    }
}

/// Whether all that a record says about a path is known of the content that wins, too.
fn is_known(
    path: &StorePath,
    record: &PackageRecord,
    records: &[&PackageRecord],
    winner: &Content<'_>,
) -> bool {
    // Another record with the same output may list other files.
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

/// Marks in a record that was just made from a Nix store what it decides: its contents win over those that the
/// records before it name.
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
