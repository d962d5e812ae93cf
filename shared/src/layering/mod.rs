//! Layering: divides the store paths of a closure into layers, and orders the layers.
//!
//! A strategy's result depends only on its arguments and its profile, so that all backends and the edge agree. This
//! module does not pack or name layers. It does not handle the symlink layer, which does not count towards the budget.
//! `docs/layering.md` has the reasoning and the figures.

mod bare_name;
mod heads;
mod learning;
mod likelihood;
mod popularity;
mod profile;
mod score;
mod sharing;

pub use popularity::{Popularity, PopularityCounts};
pub(crate) use profile::ProfileEntry;
pub use profile::{ParseProfileError, RevisionProfile};
pub use score::{PullCosts, Score, Scorer};
pub use sharing::Sharing;

use crate::{Closure, StorePath};
use std::{fmt, str::FromStr};

/// The default for the maximum number of layers of store paths in an image. Clients accept at most 125 to 127 layers,
/// and users add layers of their own.
pub const DEFAULT_BUDGET: usize = 94;

/// A way to divide the members of a closure into layers.
pub trait Strategy: fmt::Debug + Send + Sync {
    /// The layers of an image of these parts. Every member of the closure is in at least one layer, and no layer is
    /// empty. There are at most `budget` layers; a budget of zero counts as one.
    fn layers(&self, closure: &Closure, parts: &[Part], budget: usize) -> Layers;

    /// The members of each layer that [`Self::layers`] returns.
    fn group(&self, closure: &Closure, parts: &[Part], budget: usize) -> Vec<Vec<usize>> {
        self.layers(closure, parts, budget).layers.into_iter().map(|layer| layer.members).collect()
    }

    /// Identifies the strategy, its version and its data. It is part of the key of every image that is made with the
    /// strategy.
    fn version(&self) -> String;

    /// Returns `self` if it is [`Sharing`]. Each of its layers depends on one package only, so the layers of an image
    /// follow from the records of its packages.
    fn sharing(&self) -> Option<&Sharing> {
        None
    }
}

/// What layering has to know about a package of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The package's outputs: indices into [`Closure::paths`], ascending.
    pub outputs: Vec<usize>,
    /// Whether the image name implies the package instead of spelling it out.
    pub implied: bool,
}

impl Part {
    /// A package with those of these outputs that are members of the closure.
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
    /// The layers, bottom first.
    pub layers: Vec<Layer>,
    /// The step of [`Sharing`] at which the image's packages have these layers. `None` if at least one layer depends on
    /// the image as a whole.
    pub step: Option<usize>,
}

/// A layer of store paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Indices into [`Closure::paths`], ascending.
    pub members: Vec<usize>,
    /// Why these members share a layer.
    pub reason: Grouping,
}

/// Why the members of a layer share it. Numbers are indices into [`Closure::paths`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grouping {
    /// This member refers to the others, directly or not, and they have no layers of their own.
    Needed(usize),
    /// The budget does not allow them layers of their own ([`Sharing`]).
    Tail,
    /// In this image every chain of references to them goes through this member, which is one of them.
    Below(usize),
    /// The budget does not allow them layers of their own, and their ratings are the lowest ([`Popularity`]).
    Merged,
}

/// The names of the strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StrategyName {
    /// [`Sharing`].
    #[default]
    Sharing,
    /// [`Popularity`].
    Popularity,
}

/// The text does not name a strategy.
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
