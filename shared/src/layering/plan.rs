//! The order of layers, for clients that keep a layer only on top of exactly the same layers.
//!
//! Images have a prefix of layers in common as far as they agree on what comes first. Sorting by how often a
//! layer is used is not good enough: two images with the same large program differ in some small library that
//! sorts below it, and share nothing above. So the order goes by *anchors*: when an image has the anchor, the
//! anchor's whole closure comes next: a *stage* of the image. Which anchor is asked for first, and which after
//! that, is decided by the revision alone, in a tree. Images that took the same decisions have the same stages.

use super::imagined::{Imagined, PackageSet, Reach, seen};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// Fewer imagined images than this say nothing about the next: a smaller number makes a larger tree that fits
/// the images drawn, and no others better.
const FEWEST: usize = 25;

/// A tree of decisions, as a list of nodes of which the first is the root. Each node is a list of anchors: the
/// first one that the image has comes next, and then what the anchor's own node says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Plan {
    nodes: Vec<Vec<Decision>>,
}

/// An anchor, by number, and the node to go on with; no node when everything else comes by rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Decision(u32, Option<u32>);

impl Plan {
    /// The stages of an image: what each anchor that it has brings along, the anchor first, in the order of the
    /// plan. No stage is empty. What no anchor brings is in none.
    ///
    /// `holders` are the members of the image that have the anchor of a number, and `references` what a member
    /// refers to, of so many members.
    pub(super) fn stages<'a>(
        &self,
        members: usize,
        holders: impl Fn(u32) -> &'a [usize],
        references: impl Fn(usize) -> &'a [usize],
    ) -> Vec<Vec<usize>> {
        let mut stages = Vec::new();
        let mut reached = vec![false; members];
        let mut node = self.nodes.first();
        while let Some(decisions) = node {
            let with = |decision: &&Decision| !holders(decision.0).is_empty();
            let Some(decision) = decisions.iter().find(with) else { break };
            let mut brought = Vec::new();
            let mut next = holders(decision.0).to_vec();
            while let Some(i) = next.pop() {
                if !std::mem::replace(&mut reached[i], true) {
                    brought.push(i);
                    next.extend(references(i).iter().filter(|&&to| !reached[to]));
                }
            }
            // In another revision an earlier anchor may have brought all of this one.
            stages.extend((!brought.is_empty()).then_some(brought));
            node = decision.1.and_then(|next| self.nodes.get(next as usize));
        }
        stages
    }

    /// Whether every node leads on to later nodes only, so that every image comes to an end.
    pub(crate) fn is_sound(&self) -> bool {
        let leads_on = |at: usize, decision: &Decision| {
            decision.1.is_none_or(|next| (at + 1..self.nodes.len()).contains(&(next as usize)))
        };
        self.nodes.iter().enumerate().all(|(at, node)| node.iter().all(|decision| leads_on(at, decision)))
    }
}

/// A plan and its anchors: which number belongs to which member.
pub(super) fn plan(imagined: &Imagined<'_>) -> (Plan, Vec<usize>) {
    let mut planner = Planner::new(imagined);
    planner.node((0..imagined.images.len()).collect());
    (planner.plan, planner.anchors)
}

/// The stages of all these images, and what is left of each: what its layers have in common with others'.
pub(super) fn stages(
    plan: &Plan,
    anchors: &[usize],
    set: &PackageSet<'_>,
    images: &[Vec<usize>],
) -> Vec<Vec<usize>> {
    let members = set.members();
    let mut parts = Vec::new();
    for image in images {
        let holders = |anchor: u32| {
            let member = anchors.get(anchor as usize).filter(|member| image.binary_search(member).is_ok());
            member.map_or(&[] as &[usize], std::slice::from_ref)
        };
        let stages = plan.stages(members.len(), holders, |i| &members[i].references);
        let brought: HashSet<usize> = stages.iter().flatten().copied().collect();
        let rest: Vec<usize> = image.iter().copied().filter(|i| !brought.contains(i)).collect();
        parts.extend(stages.into_iter().chain([rest]).filter(|part| !part.is_empty()));
    }
    parts
}

#[derive(Debug)]
struct Planner<'a> {
    set: &'a PackageSet<'a>,
    images: &'a [Vec<usize>],
    /// The images that have each member.
    having: Vec<Vec<usize>>,
    closures: HashMap<usize, Vec<usize>>,
    reach: Reach<'a>,
    /// What the anchors above the node that is being made have brought along.
    placed: Vec<bool>,
    plan: Plan,
    anchors: Vec<usize>,
    /// The anchors' numbers.
    numbers: HashMap<usize, u32>,
    /// How likely a client is to have seen what so many of the images have.
    seen: Vec<f64>,
}

impl<'a> Planner<'a> {
    fn new(imagined: &'a Imagined<'a>) -> Self {
        let mut having = vec![Vec::new(); imagined.set.members().len()];
        for (image, contents) in imagined.images.iter().enumerate() {
            contents.iter().for_each(|&i| having[i].push(image));
        }
        Self {
            set: imagined.set,
            images: &imagined.images,
            having,
            closures: HashMap::new(),
            reach: Reach::new(imagined.set),
            placed: vec![false; imagined.set.members().len()],
            plan: Plan::default(),
            anchors: Vec::new(),
            numbers: HashMap::new(),
            seen: seen(imagined.images.len()),
        }
    }

    /// Makes the node for these images, and those below it; the node's index.
    fn node(&mut self, images: Vec<usize>) -> u32 {
        let node = self.plan.nodes.len();
        self.plan.nodes.push(Vec::new());
        let mut left = vec![false; self.images.len()];
        let mut counts: HashMap<usize, usize> = HashMap::new();
        for &image in &images {
            left[image] = true;
            for &i in &self.images[image] {
                if !self.placed[i] {
                    *counts.entry(i).or_default() += 1;
                }
            }
        }
        let mut candidates: Vec<(usize, f64)> = counts
            .iter()
            .filter(|(_, count)| **count >= FEWEST)
            .map(|(&i, _)| (i, self.new_bytes(i)))
            .collect();
        candidates.sort_unstable_by_key(|(i, _)| *i);
        while let Some((anchor, _)) = candidates
            .iter()
            .filter(|(i, _)| counts[i] >= FEWEST)
            .map(|&(i, bytes)| (i, self.value(bytes, counts[&i])))
            .filter(|(_, value)| *value > 0.0)
            .max_by(|(i, a), (j, b)| a.total_cmp(b).then(j.cmp(i)))
        {
            let with: Vec<usize> = self.having[anchor].iter().copied().filter(|&image| left[image]).collect();
            for &image in &with {
                left[image] = false;
                for i in &self.images[image] {
                    if let Some(count) = counts.get_mut(i) {
                        *count -= 1;
                    }
                }
            }
            let brought: Vec<usize> =
                self.closures[&anchor].iter().copied().filter(|&i| !self.placed[i]).collect();
            brought.iter().for_each(|&i| self.placed[i] = true);
            let next = self.node(with);
            brought.iter().for_each(|&i| self.placed[i] = false);
            // A node without decisions has no nodes after it.
            let next = match self.plan.nodes.pop_if(|node| node.is_empty()) {
                Some(_) => None,
                None => Some(next),
            };
            let number = *self.numbers.entry(anchor).or_insert_with(|| {
                self.anchors.push(anchor);
                self.anchors.len() as u32 - 1
            });
            self.plan.nodes[node].push(Decision(number, next));
        }
        node as u32
    }

    /// What it is worth to bring so many new bytes first in so many of the images: how often a client is spared
    /// them that would otherwise fetch them with every image. The size counts more than that, because whatever
    /// else those images share with others is lost: by far the largest closure comes first. The fourth power
    /// was found by trial.
    fn value(&self, bytes: f64, count: usize) -> f64 {
        bytes * bytes * bytes * bytes * (self.seen[1] * count as f64 - self.seen[count])
    }

    /// Size of what the closure of `anchor` would add to what is placed, in bytes.
    fn new_bytes(&mut self, anchor: usize) -> f64 {
        let closure = self.closures.entry(anchor).or_insert_with(|| self.reach.from(&[anchor]));
        let new = closure.iter().filter(|&&i| !self.placed[i]);
        new.map(|&i| self.set.members()[i].size).sum::<u64>() as f64
    }
}
