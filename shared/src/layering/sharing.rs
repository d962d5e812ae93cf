//! The default strategy: groups and their order are those of the revision, whatever else is in the image.

use super::{RevisionProfile, Strategy};
use crate::{Closure, StorePath};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

/// Groups of paths that nearly always travel together, in an order that is the same for all images; what the
/// budget does not allow is in one tail on top.
///
/// Without a profile every path is a group of its own.
#[derive(Debug, Clone, Default)]
pub struct Sharing {
    profile: Arc<RevisionProfile>,
}

/// What makes a group, and where it stands: groups that the profile knows come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place<'a> {
    /// A group of the profile.
    Known(usize),
    /// A path that the profile does not know: the larger, the more is gained when it is shared.
    Unknown(Reverse<u64>, &'a StorePath),
}

impl Sharing {
    /// The strategy with this profile.
    pub fn new(profile: Arc<RevisionProfile>) -> Self {
        Self { profile }
    }
}

impl Strategy for Sharing {
    fn group(&self, closure: &Closure, budget: usize) -> Vec<Vec<usize>> {
        let mut groups: BTreeMap<Place<'_>, Vec<usize>> = BTreeMap::new();
        for (i, member) in closure.paths().iter().enumerate() {
            let place = match self.profile.group_of(&member.path) {
                Some(group) => Place::Known(group),
                None => Place::Unknown(Reverse(member.nar_size), &member.path),
            };
            groups.entry(place).or_default().push(i);
        }
        let budget = budget.max(1);
        let mut tail = Vec::new();
        if groups.len() > budget {
            let size =
                |members: &[usize]| -> u64 { members.iter().map(|&i| closure.paths()[i].nar_size).sum() };
            let mut smallest: BinaryHeap<_> =
                groups.iter().map(|(place, members)| Reverse((size(members), Reverse(*place)))).collect();
            for _ in 0..=groups.len() - budget {
                let Some(Reverse((_, Reverse(place)))) = smallest.pop() else { break };
                tail.extend(groups.remove(&place).unwrap_or_default());
            }
            tail.sort_unstable();
        }
        groups.into_values().chain((!tail.is_empty()).then_some(tail)).collect()
    }

    fn version(&self) -> String {
        format!("sharing-1-{}", self.profile.key())
    }
}
