//! The default strategy: groups and their order are those of the revision, whatever else is in the image.

use super::{Layer, Reason, RevisionProfile, Strategy, profile::Place};
use crate::Closure;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Groups of paths that travel together, in an order that the revision plans; what is small or the budget does not
/// allow is in one tail on top.
///
/// Without a profile every path is a group of its own, the largest at the bottom, as far as the budget allows.
#[derive(Debug, Clone, Default)]
pub struct Sharing {
    profile: Arc<RevisionProfile>,
}

/// What one stage brings in pieces smaller than this, in bytes, is in one layer: images with the stage have all of
/// it, so that this costs no chain, and hardly any bytes.
const SMALL_IN_STAGE: u64 = 500_000;
/// The same for the first stage, which brings the same to every image that has it.
const SMALL_IN_FIRST_STAGE: u64 = 1_000_000;
/// What no anchor brings needs so many bytes to be worth a layer of its own.
const SMALL: u64 = 100_000;
/// How much more a layer in a stage is worth than another of as many bytes, because other layers are above it.
const WEIGHT_IN_STAGE: u128 = 2;
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

/// What may become a layer: those members of a group that one stage brings.
#[derive(Debug)]
struct Unit {
    members: Vec<usize>,
    /// Of the members together, in bytes.
    size: u64,
    /// Sum of the members' size × √odds: units with more of it come first. For independent layers size × odds
    /// would be best; they are not independent, and the root was better on every workload.
    precedence: u128,
    /// The largest of the members.
    reuse: u32,
    /// The stage that brings it; the last stage is what no anchor brings.
    stage: usize,
    reason: Reason,
}

impl Sharing {
    /// The strategy with this profile.
    pub fn new(profile: Arc<RevisionProfile>) -> Self {
        Self { profile }
    }

    /// The stages of a closure, without what no anchor brings.
    fn stages(&self, closure: &Closure, places: &[Option<Place>]) -> Vec<Vec<usize>> {
        let mut anchors: HashMap<u32, Vec<usize>> = HashMap::new();
        for (i, place) in places.iter().enumerate() {
            if let Some(anchor) = place.and_then(|place| place.anchor) {
                anchors.entry(anchor).or_default().push(i);
            }
        }
        let holders = |anchor: u32| anchors.get(&anchor).map_or(&[] as &[usize], Vec::as_slice);
        let references = |i: usize| closure.paths()[i].references.as_slice();
        self.profile.plan().stages(places.len(), holders, references)
    }
}

impl Strategy for Sharing {
    fn layers(&self, closure: &Closure, budget: usize) -> Vec<Layer> {
        let places: Vec<Option<Place>> =
            closure.paths().iter().map(|member| self.profile.place(&member.path)).collect();
        let stages = self.stages(closure, &places);
        let mut units = units(closure, &places, &stages);
        // Without a profile nobody knows what comes together. A tail of what is small would be another one in each
        // image, so that no combination of packages could do with the layers that they have by themselves.
        let small = if self.profile.id().is_empty() { 0 } else { SMALL };
        let tail = cut_tail(&mut units, stages.len(), small, budget.max(1));
        let units = units.into_iter().map(|unit| Layer { members: unit.members, reason: unit.reason });
        units.chain(tail).collect()
    }

    fn version(&self) -> String {
        format!("sharing-3-{}", self.profile.id())
    }

    fn profile(&self) -> Option<&RevisionProfile> {
        Some(&self.profile)
    }
}

/// What would be the layers of a closure if there were no budget, bottom first: stage by stage, and by precedence
/// in each, with what is small in the stage at its end.
fn units(closure: &Closure, places: &[Option<Place>], stages: &[Vec<usize>]) -> Vec<Unit> {
    let last = stages.len();
    let mut stage_of = vec![last; places.len()];
    for (stage, brought) in stages.iter().enumerate() {
        brought.iter().for_each(|&i| stage_of[i] = stage);
    }
    let mut units: BTreeMap<(usize, Company), Unit> = BTreeMap::new();
    for (i, (member, place)) in closure.paths().iter().zip(places).enumerate() {
        let (company, odds, reuse) = match place {
            Some(place) => (Company::Known(place.group), place.odds, place.reuse),
            None => (Company::Unknown(i), UNKNOWN.0, UNKNOWN.1),
        };
        let stage = stage_of[i];
        let unit = units.entry((stage, company)).or_insert_with(|| Unit::new(stage));
        unit.add(i, member.nar_size, u128::from(member.nar_size) * u128::from(odds), reuse);
    }
    let mut units: Vec<Unit> = units.into_values().collect();
    units.sort_by_key(|unit| (unit.stage, Reverse(unit.precedence)));
    let (mut small, mut units): (Vec<Unit>, Vec<Unit>) =
        units.into_iter().partition(|unit| unit.stage < last && unit.size < small_in(unit.stage));
    for (stage, brought) in stages.iter().enumerate() {
        let with = small.partition_point(|unit| unit.stage == stage);
        // The anchor is what a stage brings first.
        let reason = Reason::Small(brought[0]);
        let together = small.drain(..with).reduce(|all, unit| all.with(unit, reason));
        let end = units.partition_point(|unit| unit.stage <= stage);
        units.splice(end..end, together);
    }
    units
}

fn small_in(stage: usize) -> u64 {
    if stage == 0 { SMALL_IN_FIRST_STAGE } else { SMALL_IN_STAGE }
}

impl Unit {
    fn new(stage: usize) -> Self {
        Self { members: Vec::new(), size: 0, precedence: 0, reuse: 0, stage, reason: Reason::Alone }
    }

    fn add(&mut self, member: usize, size: u64, precedence: u128, reuse: u32) {
        self.members.push(member);
        self.size = self.size.saturating_add(size);
        self.precedence = self.precedence.saturating_add(precedence);
        self.reuse = self.reuse.max(reuse);
        self.reason = if self.members.len() > 1 { Reason::Together } else { Reason::Alone };
    }

    /// Both in one.
    fn with(mut self, other: Self, reason: Reason) -> Self {
        self.members.extend(other.members);
        self.size = self.size.saturating_add(other.size);
        self.reuse = self.reuse.max(other.reuse);
        self.reason = reason;
        self
    }

    /// What a client fetches in vain if the unit has no layer of its own; in a stage that breaks the chain for
    /// what comes above.
    fn worth(&self, last: usize) -> u128 {
        let weight = if self.stage < last { WEIGHT_IN_STAGE } else { 1 };
        u128::from(self.size) * u128::from(self.reuse) * weight
    }
}

/// Takes out what no anchor brings and is smaller than `small` bytes, and then what is worth least, until the others
/// and one tail of these are no more than the budget. The tail, if there is one, and all members ascending.
fn cut_tail(units: &mut Vec<Unit>, last: usize, small: u64, budget: usize) -> Option<Layer> {
    let mut cheapest: Vec<usize> = (0..units.len()).collect();
    cheapest.sort_unstable_by_key(|&unit| (units[unit].worth(last), Reverse(unit)));
    let is_small = |unit: &Unit| unit.stage == last && unit.size < small;
    let mut cut: Vec<bool> = units.iter().map(is_small).collect();
    let mut count = cut.iter().filter(|cut| **cut).count();
    for unit in cheapest {
        if units.len() - count + usize::from(count > 0) <= budget {
            break;
        }
        count += usize::from(!std::mem::replace(&mut cut[unit], true));
    }
    let mut cut = cut.into_iter();
    let taken: Vec<Unit> = units.extract_if(.., |_| cut.next() == Some(true)).collect();
    let mut tail = taken.into_iter().reduce(|all, unit| all.with(unit, Reason::Tail));
    for unit in units.iter_mut().chain(&mut tail) {
        unit.members.sort_unstable();
    }
    tail.map(|unit| Layer { members: unit.members, reason: unit.reason })
}
