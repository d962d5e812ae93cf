//! The default strategy: each layer depends on one package only, and an image has the layers of its packages.

use super::{Grouping, Layer, Layers, Part, RevisionProfile, Strategy, heads::Heads, profile::ProfileEntry};
use crate::Closure;
use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// A package has one layer for each head in its closure (`heads.rs`) and one layer of its own. An image has the layers
/// of all its packages.
///
/// Which members are heads depends on a *step*. At a higher step, a head's layer must have more bytes, so there are
/// fewer layers. An image takes the lowest step at which its layers fit the budget and hold at most `MOST_BYTES` times
/// the bytes of its closure.
#[derive(Debug, Clone, Default)]
pub struct Sharing {
    profile: Arc<RevisionProfile>,
}

/// The number of steps. The least size of a head's layer doubles from step to step, up to 768 MB with the default
/// price. The last step has no heads.
const STEPS: usize = 9;
/// The least size of a head's layer at the first step, as a share of the price of a layer. At that step, heads that the
/// profile chose may be smaller. `docs/layering.md` has results for other values.
const LEAST: f64 = 0.4;
/// A lower bound for the same size, in bytes. With a price of zero the size would otherwise be zero at every step.
const LEAST_BYTES: u64 = 100_000;
/// The least bytes of the layer of a head that a profile did not choose, as a multiple of the price. With it
/// clients fetch fewer bytes, above all after updates, in two layers more; `docs/layering.md` has other values.
const LARGE: u64 = 2;
/// The layers of an image may together hold at most this many times the bytes of its closure. Without this limit, an
/// image of many packages that share a large closure could take the last step, where each package's layer holds all of
/// that closure.
const MOST_BYTES: u64 = 2;

impl Sharing {
    /// The strategy with this profile.
    pub fn new(profile: Arc<RevisionProfile>) -> Self {
        Self { profile }
    }

    /// The profile that says which store paths are heads.
    pub fn profile(&self) -> &RevisionProfile {
        &self.profile
    }

    /// The layers of an image of these parts at a step, bottom first. For a single part, these are the layers that the
    /// package brings into every image that takes the step.
    pub fn layers_at(&self, closure: &Closure, parts: &[Part], step: usize) -> Vec<Layer> {
        self.union(closure, &self.places(closure), parts, step)
    }

    fn places(&self, closure: &Closure) -> Vec<Option<ProfileEntry>> {
        closure.paths().iter().map(|member| self.profile.place(&member.path)).collect()
    }

    /// The least size of a head's layer at a step, in bytes. `None` if the member cannot be a head at that step.
    fn least(&self, place: Option<ProfileEntry>, step: usize) -> Option<u64> {
        let price = ((self.profile.layer_bytes() as f64 * LEAST) as u64).max(LEAST_BYTES);
        match place {
            _ if step + 1 == STEPS => None,
            Some(place) if !place.head => Some((self.profile.layer_bytes() * LARGE).max(price << step)),
            // The profile has weighed it.
            Some(_) if step == 0 => Some(0),
            _ => Some(price << step),
        }
    }

    fn union(
        &self,
        closure: &Closure,
        places: &[Option<ProfileEntry>],
        parts: &[Part],
        step: usize,
    ) -> Vec<Layer> {
        let mut heads = Heads::choose(closure, |member| self.least(places[member], step));
        let piece = |first, members, all: &[usize], implied, heads: &Heads<'_>| Piece {
            first,
            members,
            needs: all.iter().copied().filter(|&i| heads.below(i).is_some()).collect(),
            weight: u128::from(all.iter().map(|&i| closure.paths()[i].nar_size).sum::<u64>())
                * u128::from(places[first].map_or(ProfileEntry::UNKNOWN_WEIGHT, |place| place.weight)),
            implied,
        };
        let mut pieces: Vec<Piece> = heads
            .layers()
            .iter()
            .map(|(head, members)| {
                piece(*head, members.clone(), heads.below(*head).unwrap_or_default(), false, &heads)
            })
            .collect();
        let of_heads = pieces.len();
        for part in parts.iter().filter(|part| !part.outputs.is_empty()) {
            let (members, all) = heads.layer(&part.outputs);
            if !members.is_empty() {
                pieces.push(piece(part.outputs[0], members, &all, part.implied, &heads));
            } else if part.implied {
                pieces[..of_heads]
                    .iter_mut()
                    .for_each(|piece| piece.implied |= part.outputs.contains(&piece.first));
            }
        }
        let rest = drop_covered(&mut pieces, of_heads, closure.len());
        let mut layers = in_order(pieces, of_heads);
        if !rest.is_empty() {
            layers.push(Layer { members: rest, reason: Grouping::Tail });
        }
        layers
    }
}

impl Strategy for Sharing {
    fn layers(&self, closure: &Closure, parts: &[Part], budget: usize) -> Layers {
        let budget = budget.max(1);
        let places = self.places(closure);
        let mut first = Vec::new();
        for step in 0..STEPS {
            let layers = self.union(closure, &places, parts, step);
            if layers.len() <= budget && bytes(closure, &layers) <= MOST_BYTES * closure.nar_size() {
                return Layers { layers, step: Some(step) };
            }
            if step == 0 {
                first = layers;
            }
        }
        Layers { layers: cut_tail(closure, &first, budget), step: None }
    }

    fn version(&self) -> String {
        format!("sharing-6-{}-{}", self.profile.layer_bytes(), self.profile.id())
    }

    fn sharing(&self) -> Option<&Sharing> {
        Some(self)
    }
}

/// A candidate for a layer.
#[derive(Debug)]
struct Piece {
    /// The head, or the package's first output.
    first: usize,
    members: Vec<usize>,
    /// The heads in the closure of `first`, which may include `first`.
    needs: Vec<usize>,
    /// Pieces with a greater weight come first. The weight is the size of the closure of `first`, in bytes, times
    /// `ProfileEntry::weight`.
    weight: u128,
    /// Whether the image name implies it.
    implied: bool,
}

/// Removes each package's own layer if all of its members are in other layers, as for a package that another package
/// depends on. The first `heads` pieces are the layers of heads and stay. Returns the members that are in no layer;
/// in an image there are none.
fn drop_covered(pieces: &mut Vec<Piece>, heads: usize, members: usize) -> Vec<usize> {
    let mut holders = vec![0u32; members];
    pieces.iter().flat_map(|piece| &piece.members).for_each(|&i| holders[i] += 1);
    // Smallest first, so that of two layers that cover each other the larger stays.
    pieces[heads..].sort_by(|a, b| (a.members.len(), &a.members).cmp(&(b.members.len(), &b.members)));
    let mut at = 0;
    pieces.retain(|piece| {
        at += 1;
        let is_covered = at > heads && piece.members.iter().all(|&i| holders[i] > 1);
        if is_covered {
            piece.members.iter().for_each(|&i| holders[i] -= 1);
        }
        !is_covered
    });
    (0..members).filter(|&i| holders[i] == 0).collect()
}

/// The layers, bottom first. Docker's classic store shares a layer only on top of the same layers, so images should
/// have as many lowest layers in common as possible. Implied packages come first, then the layers with the greatest
/// weight. Each layer is above all that it needs.
fn in_order(pieces: Vec<Piece>, heads: usize) -> Vec<Layer> {
    let mut ranked: Vec<usize> = (0..pieces.len()).collect();
    ranked.sort_by_key(|&i| (!pieces[i].implied, Reverse(pieces[i].weight), pieces[i].first, i));
    let mut rank = vec![0; pieces.len()];
    ranked.iter().enumerate().for_each(|(place, &i)| rank[i] = place);
    let of_head: HashMap<usize, usize> =
        pieces[..heads].iter().enumerate().map(|(i, piece)| (piece.first, i)).collect();
    let needs: Vec<Vec<usize>> = pieces
        .iter()
        .map(|piece| {
            let mut needs: Vec<usize> =
                piece.needs.iter().filter_map(|head| of_head.get(head).copied()).collect();
            needs.sort_unstable_by_key(|&i| rank[i]);
            needs
        })
        .collect();
    let mut order = Vec::with_capacity(pieces.len());
    let mut is_placed = vec![false; pieces.len()];
    for start in ranked {
        let mut under_way = vec![(start, 0)];
        while let Some((piece, done)) = under_way.pop() {
            if done == 0 && std::mem::replace(&mut is_placed[piece], true) {
                continue;
            }
            match needs[piece].get(done) {
                Some(&need) => under_way.extend([(piece, done + 1), (need, 0)]),
                None => order.push(piece),
            }
        }
    }
    let mut pieces: Vec<Option<Piece>> = pieces.into_iter().map(Some).collect();
    let taken = order.into_iter().filter_map(|i| pieces[i].take());
    taken.map(|piece| Layer { members: piece.members, reason: Grouping::Needed(piece.first) }).collect()
}

/// The total NAR size of the members of these layers, in bytes.
fn bytes(closure: &Closure, layers: &[Layer]) -> u64 {
    layers.iter().flat_map(|layer| &layer.members).map(|&i| closure.paths()[i].nar_size).sum()
}

/// Merges the smallest layers until at most `budget` layers are left and together hold at most [`MOST_BYTES`] times the
/// bytes of the closure.
fn cut_tail(closure: &Closure, layers: &[Layer], budget: usize) -> Vec<Layer> {
    let mut by_size: Vec<usize> = (0..layers.len()).collect();
    by_size.sort_by_cached_key(|&i| (bytes(closure, &layers[i..=i]), i));
    let mut cut = (layers.len() + 1).saturating_sub(budget).max(1);
    loop {
        let (smallest, others) = by_size.split_at(cut.min(layers.len()));
        let tail: BTreeSet<usize> = smallest.iter().flat_map(|&i| &layers[i].members).copied().collect();
        let mut kept = others.to_vec();
        kept.sort_unstable();
        let mut result: Vec<Layer> = kept.into_iter().map(|i| layers[i].clone()).collect();
        result.push(Layer { members: tail.into_iter().collect(), reason: Grouping::Tail });
        if cut >= layers.len() || bytes(closure, &result) <= MOST_BYTES * closure.nar_size() {
            return result;
        }
        cut += 1;
    }
}
