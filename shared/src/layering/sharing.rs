//! The default strategy: groups and their order are those of the revision, whatever else is in the image.

use super::{RevisionProfile, Strategy, profile::Place};
use crate::Closure;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Groups of paths that travel together, in an order that the revision plans; what the budget does not allow
/// is in one tail on top.
///
/// Without a profile every path is a group of its own, the largest at the bottom.
#[derive(Debug, Clone, Default)]
pub struct Sharing {
    profile: Arc<RevisionProfile>,
}

/// A path that the profile does not know is new, or of a package that hardly anybody uses.
const UNKNOWN: (u32, u32) = (Place::UNIT / 256, Place::UNIT / 16);

/// What makes a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Company {
    /// The number of a group of the profile.
    Known(u32),
    /// The index of a path that the profile does not know.
    Unknown(usize),
}

#[derive(Debug)]
struct Group {
    members: Vec<usize>,
    /// Of the members together, in bytes.
    size: u64,
    /// The largest of the members.
    odds: u32,
    /// The largest of the members.
    reuse: u32,
    /// How many members no anchor has brought along yet.
    missing: usize,
    placed: bool,
}

impl Group {
    /// Size × √odds: groups with more of it come first. For independent layers size × odds would be best; they
    /// are not independent, and the root was better on every workload.
    fn precedence(&self) -> u128 {
        u128::from(self.size) * u128::from(self.odds)
    }

    /// What a client fetches in vain if the group has no layer of its own.
    fn worth(&self) -> u128 {
        u128::from(self.size) * u128::from(self.reuse)
    }
}

impl Sharing {
    /// The strategy with this profile.
    pub fn new(profile: Arc<RevisionProfile>) -> Self {
        Self { profile }
    }
}

impl Strategy for Sharing {
    fn group(&self, closure: &Closure, budget: usize) -> Vec<Vec<usize>> {
        let places: Vec<Option<Place>> =
            closure.paths().iter().map(|member| self.profile.place(&member.path)).collect();
        let mut groups = groups(closure, &places);
        let tail = cut_tail(&mut groups, budget.max(1));
        let mut layers: Vec<Vec<usize>> = self
            .order(closure, &places, &mut groups)
            .into_iter()
            .map(|group| std::mem::take(&mut groups[group].members))
            .collect();
        layers.extend((!tail.is_empty()).then_some(tail));
        layers
    }

    fn version(&self) -> String {
        format!("sharing-1-{}", self.profile.id())
    }
}

impl Sharing {
    /// The groups that are not placed yet, bottom first: those that lie in the closure of each anchor, anchor
    /// by anchor, and then the others; by precedence among themselves.
    fn order(&self, closure: &Closure, places: &[Option<Place>], groups: &mut [Group]) -> Vec<usize> {
        let mut group_of = vec![0; places.len()];
        for (group, contents) in groups.iter().enumerate() {
            contents.members.iter().for_each(|&i| group_of[i] = group);
        }
        let mut anchors: HashMap<u32, Vec<usize>> = HashMap::new();
        for (i, place) in places.iter().enumerate() {
            if let Some(anchor) = place.and_then(|place| place.anchor) {
                anchors.entry(anchor).or_default().push(i);
            }
        }
        let mut order = Vec::new();
        let mut reached = vec![false; places.len()];
        for anchor in self.profile.plan().anchors(|anchor| anchors.contains_key(&anchor)) {
            let mut brought = Vec::new();
            let mut next = anchors[&anchor].clone();
            while let Some(i) = next.pop() {
                if std::mem::replace(&mut reached[i], true) {
                    continue;
                }
                next.extend(closure.paths()[i].references.iter().filter(|&&to| !reached[to]));
                let group = &mut groups[group_of[i]];
                group.missing -= 1;
                if group.missing == 0 && !std::mem::replace(&mut group.placed, true) {
                    brought.push(group_of[i]);
                }
            }
            brought.sort_unstable();
            order.extend(brought);
        }
        order.extend((0..groups.len()).filter(|&group| !groups[group].placed));
        order
    }
}

/// The groups of a closure, by precedence.
fn groups(closure: &Closure, places: &[Option<Place>]) -> Vec<Group> {
    let mut groups: BTreeMap<Company, Group> = BTreeMap::new();
    for (i, (member, place)) in closure.paths().iter().zip(places).enumerate() {
        let (company, odds, reuse) = match place {
            Some(place) => (Company::Known(place.group), place.odds, place.reuse),
            None => (Company::Unknown(i), UNKNOWN.0, UNKNOWN.1),
        };
        let new = || Group { members: Vec::new(), size: 0, odds, reuse, missing: 0, placed: false };
        let group = groups.entry(company).or_insert_with(new);
        group.members.push(i);
        group.size = group.size.saturating_add(member.nar_size);
        group.odds = group.odds.max(odds);
        group.reuse = group.reuse.max(reuse);
        group.missing += 1;
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| Reverse(group.precedence()));
    groups
}

/// Takes out the groups that are worth least, until the others and one tail of them are no more than the
/// budget; the members of the tail.
fn cut_tail(groups: &mut [Group], budget: usize) -> Vec<usize> {
    if groups.len() <= budget {
        return Vec::new();
    }
    let mut cheapest: Vec<usize> = (0..groups.len()).collect();
    cheapest.sort_unstable_by_key(|&group| (groups[group].worth(), Reverse(group)));
    cheapest.truncate(groups.len() - budget + 1);
    let mut tail = Vec::new();
    for group in cheapest {
        groups[group].placed = true;
        tail.extend_from_slice(&groups[group].members);
    }
    tail.sort_unstable();
    tail
}
