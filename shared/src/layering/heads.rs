//! The members of one layer: a store path and those members of its closure that have no layer of their own.
//!
//! Some members of a closure are *heads*. A head's layer holds the head's closure without the closures of the heads
//! below it. A package's own layer follows the same rule: it holds the package's closure without the closures of the
//! heads below it. So a layer depends on one package only: `openssl`'s layer is the same in every image. A member that
//! two heads reach with no other head between is in both layers. This duplication is small if the heads are well
//! chosen.

use crate::Closure;

/// The heads of a closure, each with its layer.
#[derive(Debug)]
pub(super) struct Heads<'a> {
    closure: &'a Closure,
    /// The closure of each member that is a head; `None` for other members.
    below: Vec<Option<Vec<usize>>>,
    /// Each head with the members of its layer, ascending. Heads are in the order in which they were chosen.
    layers: Vec<(usize, Vec<usize>)>,
    walk: Walk,
}

/// Marks the members that a walk has seen. A mark is the number of the walk, so that nothing has to be cleared between
/// walks.
#[derive(Debug)]
struct Walk {
    seen: Vec<u32>,
    covered: Vec<u32>,
    /// All members that this walk has seen or covered, once each.
    all: Vec<usize>,
    round: u32,
}

impl<'a> Heads<'a> {
    /// The heads of a closure: the members whose layer has at least `least(member)` bytes. `None` means that the member
    /// is never a head. A member is considered after all that it refers to. (Nix never makes cycles; in a cycle, the
    /// member that is considered first is the head.)
    pub(super) fn choose(closure: &'a Closure, least: impl Fn(usize) -> Option<u64>) -> Self {
        let members = closure.len();
        let walk = Walk { seen: vec![0; members], covered: vec![0; members], all: Vec::new(), round: 0 };
        let mut heads = Self { closure, below: vec![None; members], layers: Vec::new(), walk };
        for member in references_first(closure) {
            let Some(least) = least(member) else { continue };
            let (layer, all) = heads.layer(&[member]);
            let bytes: u64 = layer.iter().map(|&i| closure.paths()[i].nar_size).sum();
            // If false, the member is part of a cycle that already has a head.
            let is_its_own = layer.binary_search(&member).is_ok();
            if is_its_own && bytes >= least {
                heads.below[member] = Some(all);
                heads.layers.push((member, layer));
            }
        }
        heads
    }

    /// Each head with the members of its layer.
    pub(super) fn layers(&self) -> &[(usize, Vec<usize>)] {
        &self.layers
    }

    /// The closure of a head, in no particular order. `None` if the member is not a head.
    pub(super) fn below(&self, member: usize) -> Option<&[usize]> {
        self.below[member].as_deref()
    }

    /// Two lists for the closure of these members: first the members that no head below holds, ascending; then the
    /// whole closure, in no particular order.
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
        // The closure of a head that the walk met later may include members that were reached before.
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

/// All members, each after the members that it refers to. In a cycle the order is arbitrary but fixed.
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
