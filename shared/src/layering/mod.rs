//! Layering: which store paths of a closure travel together, and in which order.
//!
//! What a strategy answers depends on the closure, the budget and the data it was made with, and on nothing
//! else, so that two backends and the edge agree. It knows nothing of how layers are packed or named, nor of
//! the symlink layer, which is no part of the budget. `docs/layering.md` has the reasoning and the figures.

mod cotravel;
mod imagined;
mod plan;
mod popularity;
mod profile;
mod score;
mod sharing;

pub use popularity::{Popularity, PopularityCounts};
pub use profile::{ParseProfileError, RevisionProfile};
pub use score::{Score, Scorer};
pub use sharing::Sharing;
pub(crate) use {plan::Plan, profile::Place};

use crate::Closure;
use std::{fmt, str::FromStr};

/// How many layers of store paths an image has at most, unless the operator says otherwise. Clients stop at
/// 125 to 127 layers, and users add layers of their own.
pub const DEFAULT_BUDGET: usize = 94;

/// A way to put the members of a closure into groups, each of which becomes a layer.
pub trait Strategy: fmt::Debug + Send + Sync {
    /// The layers, bottom first. Every member is in exactly one, and none is empty. There are at most `budget`;
    /// a budget of zero counts as one.
    fn layers(&self, closure: &Closure, budget: usize) -> Vec<Layer>;

    /// The same without the reasons: the members of each layer.
    fn group(&self, closure: &Closure, budget: usize) -> Vec<Vec<usize>> {
        self.layers(closure, budget).into_iter().map(|layer| layer.members).collect()
    }

    /// Which strategy this is, in which version, with which data: a part of the key of every image that is
    /// made with it.
    fn version(&self) -> String;

    /// The profile that decides, where nothing but the members of a closure and their places in it do: then the
    /// layers of an image are known from what is known of its packages.
    fn profile(&self) -> Option<&RevisionProfile> {
        None
    }
}

/// Store paths that travel together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Indices into [`Closure::paths`], ascending.
    pub members: Vec<usize>,
    /// Why they are together.
    pub reason: Reason,
}

/// Why the members of a layer are together. Numbers are indices into [`Closure::paths`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// There is one only.
    Alone,
    /// Images of the package set that have one nearly always have the others.
    Together,
    /// They are small, and come with the same large package: this member.
    Small(usize),
    /// Each is too small for a layer of its own, or worth least of what the budget does not allow.
    Tail,
    /// In this image nothing leads to them but this member, which is one of them.
    Below(usize),
    /// Their ratings are the lowest of what the budget does not allow.
    Merged,
}

/// The strategies that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StrategyName {
    /// [`Sharing`].
    #[default]
    Sharing,
    /// [`Popularity`].
    Popularity,
}

/// Why a text does not name a strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no layering strategy {0:?}; there are sharing and popularity")]
pub struct ParseStrategyNameError(String);

impl FromStr for StrategyName {
    type Err = ParseStrategyNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sharing" => Ok(Self::Sharing),
            "popularity" => Ok(Self::Popularity),
            _ => Err(ParseStrategyNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for StrategyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sharing => "sharing",
            Self::Popularity => "popularity",
        })
    }
}

#[cfg(test)]
mod tests;
