//! Chooses the heads of a package set: the store paths that are worth a layer of their own.
//!
//! Each fetch of a layer costs the layer's price and its bytes. Making a member a head removes its closure from all
//! layers that hold it, and adds one layer. Heads are chosen by greedy forward selection: the member that saves most
//! is added next, until no member saves anything. The saving is exact for the heads chosen so far. The selection does
//! not check whether a later head makes an earlier one useless.
//!
//! `docs/layering.md` has the figures, and the alternatives that were tried.

use super::likelihood::{Likelihoods, fetches};
use crate::Closure;
use std::{cmp::Ordering, collections::BinaryHeap};

/// The number of packages that the first round samples. It finds the heads that many packages need. The second round
/// looks at all packages; by then most of their layers are small.
const SAMPLE: usize = 4_000;
/// In the first round, a head must be in at least this many layers of the sample. Fewer say nothing about the rest of
/// the set.
const FEWEST_IN_SAMPLE: usize = 24;
/// In the second round, a head must be in at least this many layers. In a single layer, a head saves nothing.
const FEWEST: usize = 2;

/// Whether each member of the package set is a head. `layer_bytes` is the price of a layer: the bytes that a client
/// could fetch in the same time.
pub(super) fn heads(set: &Closure, likelihoods: &Likelihoods, layer_bytes: f64) -> Vec<bool> {
    let mut learner = Learner::new(set, likelihoods, layer_bytes);
    learner.round(SAMPLE, FEWEST_IN_SAMPLE);
    learner.round(usize::MAX, FEWEST);
    learner.is_head
}

/// The layer of a head, or a package's own layer, given the heads chosen so far.
#[derive(Debug)]
struct TentativeLayer {
    /// How often the layer is fetched per pull.
    fetches: f64,
    members: Vec<u32>,
}

/// A member that could become a head.
#[derive(Debug, PartialEq)]
struct Candidate {
    /// An upper bound of what the head would save, in bytes per pull.
    spares: f64,
    member: u32,
    /// A candidate is obsolete if there is a later version for the same member.
    version: u32,
}

#[derive(Debug)]
struct Learner<'a> {
    set: &'a Closure,
    likelihoods: &'a Likelihoods,
    layer_bytes: f64,
    is_head: Vec<bool>,
    layers: Vec<TentativeLayer>,
    /// For each member, the layers that hold it or once held it.
    holders: Vec<Vec<u32>>,
    /// For each member, the bytes per pull that would leave other layers if it became a head.
    taken: Vec<f64>,
    in_layer: Marks,
    reached: Marks,
    covered: Marks,
}

/// A set of members that is cleared in constant time.
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

    /// Adds heads that are in at least `fewest` layers, judging from `sample` requested packages.
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
            // The candidate's bound leaves out the bytes of its own layer. The exact saving needs them.
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

    /// Sets up the layers of the heads chosen so far, and the own layers of `sample` packages. Each sampled package
    /// stands for an equal share of the package set.
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
            self.push(TentativeLayer { fetches, members });
        }
    }

    fn fetches_of(&self, member: u32) -> f64 {
        fetches(self.likelihoods.in_image[member as usize])
    }

    fn candidate(&self, member: u32, version: u32) -> Option<Candidate> {
        let spares = self.spares(member, 0.0);
        (!self.is_head[member as usize] && spares > 0.0).then_some(Candidate { spares, member, version })
    }

    /// The bytes that a head at this member saves per pull. `bytes` is the size of the head's layer.
    fn spares(&self, member: u32, bytes: f64) -> f64 {
        self.taken[member as usize] - self.fetches_of(member) * (self.layer_bytes + bytes)
    }

    /// The members of the layer that `member` would have as a head.
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

    /// Makes a member a head whose layer holds `own`. Returns the members whose saving may have changed.
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
        self.push(TentativeLayer { fetches, members: own });
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    fn push(&mut self, layer: TentativeLayer) {
        let at = self.layers.len();
        layer.members.iter().for_each(|&i| self.holders[i as usize].push(at as u32));
        self.layers.push(layer);
        self.count(at, 1.0);
    }

    /// For each member of a layer, adds to `taken` the bytes per pull that it would remove from the layer as a head.
    /// A `sign` of -1 subtracts them.
    fn count(&mut self, at: usize, sign: f64) {
        let TentativeLayer { fetches, members } = &self.layers[at];
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
    /// The candidate that saves most is the greatest, so a heap returns it first.
    fn cmp(&self, other: &Self) -> Ordering {
        self.spares.total_cmp(&other.spares).then_with(|| other.member.cmp(&self.member))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
