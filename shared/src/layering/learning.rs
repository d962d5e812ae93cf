//! Choosing the heads of a package set: which store paths are worth a layer of their own.
//!
//! A layer costs its price and its bytes each time that it is fetched. To make a member a head takes its closure out of
//! all layers that hold it, and adds one layer. So heads are added one after the other, the one first that spares most,
//! until none spares anything (greedy forward selection). What is spared is exact for the heads chosen so far; that a
//! later head would have made an earlier one needless is not looked for.
//!
//! `docs/layering.md` has the figures, and what else was tried.

use super::likelihood::{Likelihoods, fetches};
use crate::Closure;
use std::{cmp::Ordering, collections::BinaryHeap};

/// Requested packages that the first round looks at, in which the heads that many need are found. The second looks at
/// all, when few of them have much left.
const SAMPLE: usize = 4_000;
/// Layers of the sample that a head of the first round is in, at least: fewer say nothing of the rest.
const FEWEST_IN_SAMPLE: usize = 24;
/// The same for the second round: in one layer alone it spares nothing.
const FEWEST: usize = 2;

/// Chooses the heads of a package set: for each member, whether it is one. A layer costs as much as fetching
/// `layer_bytes` bytes.
pub(super) fn heads(set: &Closure, likelihoods: &Likelihoods, layer_bytes: f64) -> Vec<bool> {
    let mut learner = Learner::new(set, likelihoods, layer_bytes);
    learner.round(SAMPLE, FEWEST_IN_SAMPLE);
    learner.round(usize::MAX, FEWEST);
    learner.is_head
}

/// A layer as the heads chosen so far leave it: of a head, or a package's own.
#[derive(Debug)]
struct Layer {
    /// How often it is fetched, for each pull.
    fetches: f64,
    members: Vec<u32>,
}

/// A head that could be added. An older version of the same is void.
#[derive(Debug, PartialEq)]
struct Candidate {
    /// In bytes for each pull; more than that it cannot be.
    spares: f64,
    member: u32,
    version: u32,
}

#[derive(Debug)]
struct Learner<'a> {
    set: &'a Closure,
    likelihoods: &'a Likelihoods,
    layer_bytes: f64,
    is_head: Vec<bool>,
    layers: Vec<Layer>,
    /// The layers that each member is in, or was.
    holders: Vec<Vec<u32>>,
    /// The bytes that leave other layers when a member becomes a head, for each pull.
    taken: Vec<f64>,
    in_layer: Marks,
    reached: Marks,
    covered: Marks,
}

/// Which members are in a set; emptied at once.
#[derive(Debug)]
struct Marks {
    round_of: Vec<u32>,
    round: u32,
}

impl<'a> Learner<'a> {
    fn new(set: &'a Closure, likelihoods: &'a Likelihoods, layer_bytes: f64) -> Self {
        let marks = || Marks { round_of: vec![0; set.len()], round: 0 };
        Self {
            set,
            likelihoods,
            layer_bytes,
            is_head: vec![false; set.len()],
            layers: Vec::new(),
            holders: Vec::new(),
            taken: Vec::new(),
            in_layer: marks(),
            reached: marks(),
            covered: marks(),
        }
    }

    /// Adds heads that are in `fewest` layers at least, as far as so many requested packages tell.
    fn round(&mut self, sample: usize, fewest: usize) {
        self.begin(sample);
        let may: Vec<bool> = self.holders.iter().map(|holders| holders.len() >= fewest).collect();
        let mut versions = vec![0u32; self.set.len()];
        let mut heap: BinaryHeap<Candidate> = (0..self.set.len() as u32)
            .filter(|&member| may[member as usize])
            .filter_map(|member| self.candidate(member, 0))
            .collect();
        while let Some(candidate) = heap.pop() {
            let member = candidate.member as usize;
            if self.is_head[member] || versions[member] != candidate.version {
                continue;
            }
            // Its own layer's bytes are known only now.
            let layer = self.layer_of(candidate.member);
            let bytes = self.bytes(&layer);
            let spares = candidate.spares.min(self.spares(candidate.member, bytes));
            if spares <= 0.0 {
                continue;
            }
            if heap.peek().is_some_and(|next| next.spares > spares) {
                heap.push(Candidate { spares, ..candidate });
                continue;
            }
            for changed in self.add(candidate.member, layer) {
                versions[changed as usize] += 1;
                if may[changed as usize] && !self.is_head[changed as usize] {
                    heap.extend(self.candidate(changed, versions[changed as usize]));
                }
            }
        }
    }

    /// Sets up the layers: of the heads so far, and the own ones of so many packages, each of which stands for others.
    fn begin(&mut self, sample: usize) {
        let members = self.set.len();
        (self.holders, self.taken) = (vec![Vec::new(); members], vec![0.0; members]);
        self.layers.clear();
        let sample = sample.min(members);
        let stands_for = members as f64 / sample.max(1) as f64;
        let of_request = fetches(self.likelihoods.of_request()) * stands_for;
        let requested = (0..sample).map(|i| ((i * members / sample) as u32, of_request));
        let shell = self.likelihoods.shell.iter().map(|&member| (member, fetches(0.5)));
        let own: Vec<(u32, f64)> =
            requested.chain(shell).filter(|(member, _)| !self.is_head[*member as usize]).collect();
        let heads = (0..members as u32).filter(|&member| self.is_head[member as usize]);
        let heads: Vec<(u32, f64)> = heads.map(|member| (member, self.fetches_of(member))).collect();
        for (member, fetches) in own.into_iter().chain(heads) {
            let members = self.layer_of(member);
            self.push(Layer { fetches, members });
        }
    }

    fn fetches_of(&self, member: u32) -> f64 {
        fetches(self.likelihoods.in_image[member as usize])
    }

    fn candidate(&self, member: u32, version: u32) -> Option<Candidate> {
        let spares = self.spares(member, 0.0);
        (!self.is_head[member as usize] && spares > 0.0).then_some(Candidate { spares, member, version })
    }

    /// The bytes that each pull spares if this member becomes a head. `bytes` is the size of its layer.
    fn spares(&self, member: u32, bytes: f64) -> f64 {
        self.taken[member as usize] - self.fetches_of(member) * (self.layer_bytes + bytes)
    }

    /// The layer that a member would have as a head.
    fn layer_of(&mut self, member: u32) -> Vec<u32> {
        self.covered.clear();
        let closures = &self.likelihoods.closures;
        let closure = &closures[member as usize];
        for &below in closure {
            let is_head = below != member && self.is_head[below as usize];
            if is_head && !self.covered.has(below) {
                closures[below as usize].iter().for_each(|&i| self.covered.add(i));
            }
        }
        closure.iter().copied().filter(|&i| !self.covered.has(i)).collect()
    }

    fn bytes(&self, members: &[u32]) -> f64 {
        members.iter().map(|&i| self.size(i)).sum::<u64>() as f64
    }

    fn size(&self, member: u32) -> u64 {
        self.set.paths()[member as usize].nar_size
    }

    /// Makes a member a head; the members of which something else is spared now.
    fn add(&mut self, head: u32, own: Vec<u32>) -> Vec<u32> {
        self.is_head[head as usize] = true;
        let mut changed = own.clone();
        let likelihoods = self.likelihoods;
        for at in std::mem::take(&mut self.holders[head as usize]) {
            let at = at as usize;
            if !self.layers[at].members.contains(&head) {
                continue;
            }
            self.count(at, -1.0);
            changed.extend(&self.layers[at].members);
            self.covered.clear();
            likelihoods.closures[head as usize].iter().for_each(|&i| self.covered.add(i));
            let covered = &self.covered;
            self.layers[at].members.retain(|&i| !covered.has(i));
            self.count(at, 1.0);
        }
        let fetches = self.fetches_of(head);
        self.push(Layer { fetches, members: own });
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    fn push(&mut self, layer: Layer) {
        let at = self.layers.len();
        layer.members.iter().for_each(|&i| self.holders[i as usize].push(at as u32));
        self.layers.push(layer);
        self.count(at, 1.0);
    }

    /// Adds what each member of a layer would take out of it, or takes that back.
    fn count(&mut self, at: usize, sign: f64) {
        let Layer { fetches, members } = &self.layers[at];
        self.in_layer.clear();
        members.iter().for_each(|&i| self.in_layer.add(i));
        let mut next = Vec::new();
        for &member in members {
            self.reached.clear();
            self.reached.add(member);
            next.push(member as usize);
            let mut bytes = 0u64;
            while let Some(i) = next.pop() {
                let path = &self.set.paths()[i];
                bytes += path.nar_size;
                for &to in &path.references {
                    if self.in_layer.has(to as u32) && !self.reached.has(to as u32) {
                        self.reached.add(to as u32);
                        next.push(to);
                    }
                }
            }
            self.taken[member as usize] += sign * fetches * bytes as f64;
        }
    }
}

impl Marks {
    fn clear(&mut self) {
        self.round += 1;
    }

    fn add(&mut self, member: u32) {
        self.round_of[member as usize] = self.round;
    }

    fn has(&self, member: u32) -> bool {
        self.round_of[member as usize] == self.round
    }
}

impl Eq for Candidate {}

impl Ord for Candidate {
    /// What spares most is greatest, and comes first out of a heap.
    fn cmp(&self, other: &Self) -> Ordering {
        self.spares.total_cmp(&other.spares).then_with(|| other.member.cmp(&self.member))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
