//! Evaluates many attributes in pieces. Some attributes make every evaluation fail (`abort`, a type error, endless
//! recursion); the pieces leave these out.

use std::collections::VecDeque;
use std::ops::Range;

/// The positions of a list, in pieces.
///
/// An evaluation reports the position that it is at. So a failed evaluation costs one position and, as a rule, one
/// more evaluation. If no position was reported, the piece is halved.
#[derive(Debug)]
pub(super) struct Pieces {
    /// The pieces to evaluate, next one first. None of them is empty.
    pending: VecDeque<Range<usize>>,
    /// The positions that were left out.
    given_up: Vec<usize>,
    /// How many pieces may still be started.
    left: usize,
}

impl Pieces {
    /// All positions of a list of this length, in pieces of `size`. At most `limit` pieces are started.
    pub(super) fn new(length: usize, size: usize, limit: usize) -> Self {
        let starts = (0..length).step_by(size.max(1));
        let pending = starts.map(|start| start..(start + size.max(1)).min(length)).collect();
        Self { pending, given_up: Vec::new(), left: limit }
    }

    /// The next piece. Once the limit is reached, the remaining positions are left out.
    pub(super) fn next(&mut self) -> Option<Range<usize>> {
        if self.left == 0 {
            self.given_up.extend(self.pending.drain(..).flatten());
            return None;
        }
        self.left -= 1;
        self.pending.pop_front()
    }

    /// Records that an evaluation of this piece failed, and at which position, if that is known.
    pub(super) fn failed(&mut self, piece: Range<usize>, at: Option<usize>) {
        let at = at.filter(|at| piece.contains(at)).or((piece.len() == 1).then_some(piece.start));
        let parts = match at {
            Some(at) => {
                self.given_up.push(at);
                [piece.start..at, at + 1..piece.end]
            }
            None => {
                let middle = piece.start + piece.len() / 2;
                [piece.start..middle, middle..piece.end]
            }
        };
        for part in parts.into_iter().rev().filter(|part| !part.is_empty()) {
            self.pending.push_front(part);
        }
    }

    /// The positions that were left out.
    pub(super) fn given_up(self) -> Vec<usize> {
        self.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Which positions are evaluated and which are left out if `bad` ones make an evaluation fail, and how many
    /// evaluations it takes.
    fn walk(
        length: usize,
        size: usize,
        bad: &BTreeSet<usize>,
        tells: bool,
    ) -> (Vec<usize>, Vec<usize>, usize) {
        let mut pieces = Pieces::new(length, size, usize::MAX);
        let (mut seen, mut evaluations) = (Vec::new(), 0);
        while let Some(piece) = pieces.next() {
            evaluations += 1;
            match piece.clone().find(|place| bad.contains(place)) {
                Some(at) => pieces.failed(piece, tells.then_some(at)),
                None => seen.extend(piece),
            }
        }
        (seen, pieces.given_up(), evaluations)
    }

    proptest! {
        #[test]
        fn all_names_but_the_bad_ones_are_evaluated(
            length in 0..60_usize,
            size in 0..20_usize,
            bad in proptest::collection::btree_set(0..60_usize, 0..8),
            tells in any::<bool>(),
        ) {
            let (seen, given_up, _) = walk(length, size, &bad, tells);
            let bad: Vec<_> = bad.into_iter().filter(|place| *place < length).collect();
            let good: Vec<_> = (0..length).filter(|place| !bad.contains(place)).collect();
            prop_assert_eq!(seen, good);
            prop_assert_eq!(given_up, bad);
        }
    }

    #[test]
    fn a_failure_that_tells_its_place_costs_two_evaluations() {
        assert_eq!(walk(1000, 1000, &[500].into(), true).2, 3);
        assert_eq!(walk(1000, 1000, &[0].into(), true).2, 2);
        assert_eq!(walk(1000, 1000, &[].into(), true).2, 1);
    }

    #[test]
    fn a_place_outside_the_piece_is_not_believed() {
        let mut pieces = Pieces::new(4, 4, 10);
        let piece = pieces.next().expect("a piece");
        pieces.failed(piece, Some(7));
        assert_eq!(pieces.next(), Some(0..2));
        assert_eq!(pieces.next(), Some(2..4));
    }

    #[test]
    fn names_beyond_the_limit_of_evaluations_are_given_up() {
        let mut pieces = Pieces::new(6, 2, 2);
        assert_eq!((pieces.next(), pieces.next(), pieces.next()), (Some(0..2), Some(2..4), None));
        assert_eq!(pieces.given_up(), [4, 5]);
    }
}
