//! Closures: store paths with all store paths that they refer to, directly or not.

use crate::{StorePath, oci::digest::NarHash};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The entry for one store path in Nix's database (`nix-store --dump-db`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathInfo {
    /// The store path.
    pub path: StorePath,
    /// Digest of the path's NAR serialisation.
    pub nar_hash: NarHash,
    /// Size of the NAR serialisation, in bytes.
    pub nar_size: u64,
    /// The store paths that the path refers to, possibly including itself.
    pub references: Vec<StorePath>,
}

/// One member of a [`Closure`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosurePath {
    /// The store path.
    pub path: StorePath,
    /// Digest of the path's NAR serialisation. The keys of layers contain it.
    pub nar_hash: NarHash,
    /// Size of the NAR serialisation, in bytes.
    pub nar_size: u64,
    /// The members that the path refers to, as ascending indices, without the path itself.
    pub references: Vec<usize>,
}

/// Why store path records are not a closure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClosureError {
    /// A path refers to a path that has no record.
    #[error("{from} refers to {to}, which is missing")]
    Open {
        /// The path with the reference.
        from: StorePath,
        /// The path without a record.
        to: StorePath,
    },
    /// Two records of the same path have different contents.
    #[error("{0} has two different contents")]
    Contradiction(StorePath),
}

/// Store paths, sorted and without repetition. All references of a member are members.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Closure {
    paths: Vec<ClosurePath>,
}

impl Closure {
    /// The closure of these records, which may be in any order and repeated.
    ///
    /// # Errors
    /// If a reference has no record, or two records of one path have different contents.
    pub fn new<'a>(records: impl IntoIterator<Item = &'a PathInfo>) -> Result<Self, ClosureError> {
        let mut by_path: BTreeMap<&StorePath, &PathInfo> = BTreeMap::new();
        for record in records {
            if let Some(other) = by_path.insert(&record.path, record)
                && other.nar_hash != record.nar_hash
            {
                return Err(ClosureError::Contradiction(record.path.clone()));
            }
        }
        let index: BTreeMap<&StorePath, usize> =
            by_path.keys().enumerate().map(|(i, path)| (*path, i)).collect();
        let paths = by_path
            .values()
            .map(|record| {
                let mut references = record
                    .references
                    .iter()
                    .filter(|to| **to != record.path)
                    .map(|to| {
                        index
                            .get(to)
                            .copied()
                            .ok_or_else(|| ClosureError::Open { from: record.path.clone(), to: to.clone() })
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                references.sort_unstable();
                references.dedup();
                Ok(ClosurePath {
                    path: record.path.clone(),
                    nar_hash: record.nar_hash,
                    nar_size: record.nar_size,
                    references,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { paths })
    }

    /// The members, sorted by path.
    pub fn paths(&self) -> &[ClosurePath] {
        &self.paths
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether the closure has no members.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The index of a path in [`Closure::paths`].
    pub fn position(&self, path: &StorePath) -> Option<usize> {
        self.paths.binary_search_by(|member| member.path.cmp(path)).ok()
    }

    /// The total NAR size of all members, in bytes. Sizes that a cache has made up may be of any height.
    pub fn nar_size(&self) -> u64 {
        self.paths.iter().fold(0, |sum, member| sum.saturating_add(member.nar_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(letter: char) -> StorePath {
        format!("/nix/store/{}-{letter}", letter.to_string().repeat(32)).parse().expect("a store path")
    }

    fn info(letter: char, references: &str) -> PathInfo {
        PathInfo {
            path: path(letter),
            nar_hash: NarHash::of(&[letter as u8]),
            nar_size: 10,
            references: references.chars().map(path).collect(),
        }
    }

    #[test]
    fn sorts_and_drops_self_references() {
        let closure = Closure::new(&[info('b', "ab"), info('a', ""), info('b', "ba")]).expect("closed");
        assert_eq!(closure.len(), 2);
        assert_eq!(closure.nar_size(), 20);
        assert_eq!(closure.paths()[1].references, [0]);
        assert_eq!(closure.position(&path('b')), Some(1));
        assert_eq!(closure.position(&path('c')), None);
    }

    #[test]
    fn sizes_that_are_made_up_do_not_wrap() {
        let mut huge = info('b', "");
        huge.nar_size = u64::MAX;
        let closure = Closure::new(&[info('a', ""), huge]).expect("closed");
        assert_eq!(closure.nar_size(), u64::MAX);
    }

    #[test]
    fn refuses_closures_with_missing_or_contradictory_paths() {
        let open = Closure::new(&[info('b', "a")]);
        assert_eq!(open, Err(ClosureError::Open { from: path('b'), to: path('a') }));
        let mut other = info('a', "");
        other.nar_hash = NarHash::of(b"else");
        assert_eq!(Closure::new(&[info('a', ""), other]), Err(ClosureError::Contradiction(path('a'))));
    }
}
