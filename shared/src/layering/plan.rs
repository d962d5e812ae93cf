//! The order of layers, for clients that keep a layer only on top of exactly the same layers.
//!
//! Images have a prefix of layers in common as far as they agree on what comes first. Sorting by how often a
//! layer is used is not good enough: two images with the same large program differ in some small library that
//! sorts below it, and share nothing above. So the order goes by *anchors*: when an image has the anchor, the
//! anchor's whole closure comes next. Which anchor is asked for first, and which after that, is decided by the
//! revision alone, in a tree.

use super::imagined::{Imagined, Reach};
use crate::Closure;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Fewer imagined images than this say nothing about the next: a smaller number makes a larger tree that fits
/// the images drawn, and no others better.
const FEWEST: usize = 25;

/// A tree of decisions, as a list of nodes of which the first is the root. Each node is a list of anchors: the
/// first one that the image has comes next, and then what the anchor's own node says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Plan {
    nodes: Vec<Vec<Decision>>,
}

/// An anchor, by number, and the node to go on with; no node when everything else comes by rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Decision(u32, Option<u32>);

impl Plan {
    /// The anchors that an image has, of those given, in the order of the plan.
    pub(super) fn anchors(&self, mut has: impl FnMut(u32) -> bool) -> Vec<u32> {
        let mut anchors = Vec::new();
        let mut node = self.nodes.first();
        while let Some(decisions) = node {
            let Some(decision) = decisions.iter().find(|decision| has(decision.0)) else { break };
            anchors.push(decision.0);
            node = decision.1.and_then(|next| self.nodes.get(next as usize));
        }
        anchors
    }

    /// Whether every node leads on to later nodes only, so that every image comes to an end.
    pub(super) fn is_sound(&self) -> bool {
        let leads_on = |at: usize, decision: &Decision| {
            decision.1.is_none_or(|next| (at + 1..self.nodes.len()).contains(&(next as usize)))
        };
        self.nodes.iter().enumerate().all(|(at, node)| node.iter().all(|decision| leads_on(at, decision)))
    }
}

/// A plan and its anchors: which member has which number.
pub(super) fn plan(imagined: &Imagined<'_>) -> (Plan, HashMap<usize, u32>) {
    let mut planner = Planner::new(imagined);
    planner.node((0..imagined.images.len()).collect());
    (planner.plan, planner.numbers)
}

#[derive(Debug)]
struct Planner<'a> {
    set: &'a Closure,
    images: &'a [Vec<usize>],
    /// The images that have each member.
    having: Vec<Vec<usize>>,
    closures: HashMap<usize, Vec<usize>>,
    reach: Reach<'a>,
    /// What the anchors above the node that is being made have brought along.
    placed: Vec<bool>,
    plan: Plan,
    numbers: HashMap<usize, u32>,
}

impl<'a> Planner<'a> {
    fn new(imagined: &'a Imagined<'a>) -> Self {
        let mut having = vec![Vec::new(); imagined.set.len()];
        for (image, contents) in imagined.images.iter().enumerate() {
            contents.iter().for_each(|&i| having[i].push(image));
        }
        Self {
            set: imagined.set,
            images: &imagined.images,
            having,
            closures: HashMap::new(),
            reach: Reach::new(imagined.set),
            placed: vec![false; imagined.set.len()],
            plan: Plan::default(),
            numbers: HashMap::new(),
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
        // By far the largest closure that enough images have: sharing all of a large program is worth more
        // than agreeing with everybody on something small. Fourth power and threshold were found by trial.
        let value = |bytes: f64, count: usize| bytes * bytes * bytes * bytes * (count - 1) as f64;
        while let Some((anchor, _)) = candidates
            .iter()
            .filter(|(i, _)| counts[i] >= FEWEST)
            .map(|&(i, bytes)| (i, value(bytes, counts[&i])))
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
            let numbers = self.numbers.len() as u32;
            let number = *self.numbers.entry(anchor).or_insert(numbers);
            self.plan.nodes[node].push(Decision(number, next));
        }
        node as u32
    }

    /// Size of what the closure of `anchor` would add to what is placed, in bytes.
    fn new_bytes(&mut self, anchor: usize) -> f64 {
        let closure = self.closures.entry(anchor).or_insert_with(|| self.reach.from(&[anchor]));
        let new = closure.iter().filter(|&&i| !self.placed[i]);
        new.map(|&i| self.set.paths()[i].nar_size).sum::<u64>() as f64
    }
}
