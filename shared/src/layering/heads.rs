//! What is in one layer: a store path with what it refers to, as far as that has no layer of its own.
//!
//! Some members of a closure are *heads*. A head's layer holds its closure without the closures of the heads below it.
//! What a package brings that no head below it holds is the package's own layer, by the same rule. So a layer is a
//! function of one package: whatever else an image holds, `openssl`'s layer is the same. A member that two heads
//! reach without another head between is in the layers of both. That is the price, and it is small when heads are
//! chosen well.

use crate::Closure;

/// The heads of a closure, each with its layer.
#[derive(Debug)]
pub(super) struct Heads<'a> {
    closure: &'a Closure,
    /// For each member that is a head: all that it refers to, directly or not, itself included.
    below: Vec<Option<Vec<usize>>>,
    /// The layer of each head, its members ascending; in the order of the heads.
    layers: Vec<(usize, Vec<usize>)>,
    walk: Walk,
}

/// Marks of which members a walk has seen; a round a walk, so that nothing has to be cleared.
#[derive(Debug)]
struct Walk {
    seen: Vec<u32>,
    covered: Vec<u32>,
    /// All that this walk has seen or covered, once each.
    all: Vec<usize>,
    round: u32,
}

impl<'a> Heads<'a> {
    /// The heads of a closure: the members whose layer has at least as many bytes as `least` says, which are asked after
    /// all that they refer to. None means never. (In a cycle, which Nix never makes, the first counts.)
    pub(super) fn choose(closure: &'a Closure, least: impl Fn(usize) -> Option<u64>) -> Self {
        let members = closure.len();
        let walk = Walk { seen: vec![0; members], covered: vec![0; members], all: Vec::new(), round: 0 };
        let mut heads = Self { closure, below: vec![None; members], layers: Vec::new(), walk };
        for member in references_first(closure) {
            let Some(least) = least(member) else { continue };
            let (layer, all) = heads.layer(&[member]);
            let bytes: u64 = layer.iter().map(|&i| closure.paths()[i].nar_size).sum();
            // Else it is part of a cycle that has a head.
            let is_its_own = layer.binary_search(&member).is_ok();
            if is_its_own && bytes >= least {
                heads.below[member] = Some(all);
                heads.layers.push((member, layer));
            }
        }
        heads
    }

    /// The layers of all heads, each with its head.
    pub(super) fn layers(&self) -> &[(usize, Vec<usize>)] {
        &self.layers
    }

    /// What is below a head, itself included, in no particular order.
    pub(super) fn below(&self, member: usize) -> Option<&[usize]> {
        self.below[member].as_deref()
    }

    /// What these members bring that no head below them holds, ascending; and all that they refer to, directly or not,
    /// themselves included, in no particular order.
    pub(super) fn layer(&mut self, starts: &[usize]) -> (Vec<usize>, Vec<usize>) {
        self.walk.begin();
        let mut next: Vec<usize> = starts.to_vec();
        let mut reached = Vec::new();
        while let Some(i) = next.pop() {
            if self.walk.has_seen(i) || self.walk.has_covered(i) {
                continue;
            }
            if let Some(below) = &self.below[i] {
                self.walk.cover(below);
                continue;
            }
            self.walk.see(i);
            reached.push(i);
            next.extend(&self.closure.paths()[i].references);
        }
        // A head that was met later may hold what was reached before.
        reached.retain(|&i| !self.walk.has_covered(i));
        reached.sort_unstable();
        (reached, std::mem::take(&mut self.walk.all))
    }
}

impl Walk {
    fn begin(&mut self) {
        self.round += 1;
        self.all.clear();
    }

    fn see(&mut self, member: usize) {
        self.seen[member] = self.round;
        self.all.push(member);
    }

    fn cover(&mut self, members: &[usize]) {
        for &member in members {
            if !self.has_covered(member) {
                self.covered[member] = self.round;
                if !self.has_seen(member) {
                    self.all.push(member);
                }
            }
        }
    }

    fn has_seen(&self, member: usize) -> bool {
        self.seen[member] == self.round
    }

    fn has_covered(&self, member: usize) -> bool {
        self.covered[member] == self.round
    }
}

/// All members, each after what it refers to, as far as there are no cycles.
pub(super) fn references_first(closure: &Closure) -> Vec<usize> {
    let paths = closure.paths();
    let mut order = Vec::with_capacity(paths.len());
    let mut seen = vec![false; paths.len()];
    for start in 0..paths.len() {
        let mut under_way = vec![(start, 0)];
        while let Some((i, done)) = under_way.pop() {
            if done == 0 && std::mem::replace(&mut seen[i], true) {
                continue;
            }
            match paths[i].references.get(done) {
                Some(&to) => under_way.extend([(i, done + 1), (to, 0)]),
                None => order.push(i),
            }
        }
    }
    order
}
