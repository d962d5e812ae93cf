//! How images are made.

use super::bounds::mebibytes;
use crate::packing::Encoder;
use clap::Args;
use firn_shared::layering::{DEFAULT_BUDGET, StrategyName};

/// Layering and compression.
#[derive(Debug, Clone, Args)]
pub struct ImageArgs {
    /// Maximum number of layers of an image, without the symlink layer; clients stop at 125 to 127
    #[arg(long, env = "FIRN_LAYER_BUDGET", value_name = "N", default_value_t = DEFAULT_BUDGET as u16,
          value_parser = clap::value_parser!(u16).range(1..=120))]
    pub layer_budget: u16,

    /// The largest closure that an image may have, in MiB of NAR
    #[arg(long, env = "FIRN_MAX_CLOSURE", value_name = "MIB", value_parser = mebibytes(), default_value_t = 32_768)]
    pub max_closure: u64,

    /// How store paths are put into layers: sharing or popularity
    #[arg(long, env = "FIRN_STRATEGY", value_name = "NAME", default_value_t)]
    pub strategy: StrategyName,

    /// URL or file with a profile of the package set, written by firn popularity --profile, for --strategy sharing
    #[arg(long, env = "FIRN_PROFILE", value_name = "URL", hide_env_values = true)]
    pub profile: Option<String>,

    /// URL or file with popularity data, a JSON object of counts by package name, for --strategy popularity
    #[arg(long, env = "FIRN_POPULARITY_URL", value_name = "URL", hide_env_values = true)]
    pub popularity_url: Option<String>,

    /// How layers are compressed: gzip or zstd, optionally with :LEVEL
    #[arg(long, env = "FIRN_COMPRESSION", value_name = "METHOD", default_value_t = Encoder::GZIP)]
    pub compression: Encoder,
}
