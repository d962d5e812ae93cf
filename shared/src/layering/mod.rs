//! Layering: which store paths of a closure travel together, and in which order.
//!
//! What a strategy answers depends on the closure, the budget and the data it was made with, and on nothing
//! else, so that two backends and the edge agree. It knows nothing of how layers are packed or named, nor of
//! the symlink layer, which is no part of the budget. `docs/layering.md` has the reasoning and the figures.

mod bare_name;
mod heads;
mod learning;
mod likelihood;
mod popularity;
mod profile;
mod score;
mod sharing;

pub use popularity::{Popularity, PopularityCounts};
pub(crate) use profile::Place;
pub use profile::{ParseProfileError, RevisionProfile};
pub use score::{PullCosts, Score, Scorer};
pub use sharing::Sharing;

use crate::{Closure, StorePath};
use std::{fmt, str::FromStr};

/// How many layers of store paths an image has at most, unless the operator says otherwise. Clients stop at
/// 125 to 127 layers, and users add layers of their own.
pub const DEFAULT_BUDGET: usize = 94;

/// A way to put the members of a closure into layers.
pub trait Strategy: fmt::Debug + Send + Sync {
    /// The layers of an image of these parts. Every member of the closure is in one at least, and none is empty. There
    /// are at most `budget`; a budget of zero counts as one.
    fn layers(&self, closure: &Closure, parts: &[Part], budget: usize) -> Layers;

    /// The same without the reasons: the members of each layer.
    fn group(&self, closure: &Closure, parts: &[Part], budget: usize) -> Vec<Vec<usize>> {
        self.layers(closure, parts, budget).layers.into_iter().map(|layer| layer.members).collect()
    }

    /// Which strategy this is, in which version, with which data: a part of the key of every image that is
    /// made with it.
    fn version(&self) -> String;

    /// The strategy whose layers are functions of one package, if this is it: then the layers of an image are known
    /// from what is known of its packages.
    fn sharing(&self) -> Option<&Sharing> {
        None
    }
}

/// A package of an image, as far as layers are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its outputs: indices into [`Closure::paths`], ascending.
    pub outputs: Vec<usize>,
    /// Whether the image's name implies it, rather than spelling it out.
    pub implied: bool,
}

impl Part {
    /// A package with these outputs, as far as they are members of the closure.
    pub fn new<'a>(
        closure: &Closure,
        outputs: impl IntoIterator<Item = &'a StorePath>,
        implied: bool,
    ) -> Self {
        let mut outputs: Vec<usize> = outputs.into_iter().filter_map(|path| closure.position(path)).collect();
        outputs.sort_unstable();
        outputs.dedup();
        Self { outputs, implied }
    }
}

/// The layers of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layers {
    /// Bottom first.
    pub layers: Vec<Layer>,
    /// The step at which its packages have the same layers ([`Sharing`]); none where layers are those of this image.
    pub step: Option<usize>,
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
    /// This member needs the others, and they have no layers of their own.
    Needed(usize),
    /// They are what the budget does not allow layers of their own.
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
