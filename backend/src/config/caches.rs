//! Which binary caches images are made from, and what is built that they do not have.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// How many derivations are built for an image at most, where there are binary caches and the operator says nothing.
const MAX_DERIVATIONS: usize = 50;

/// Binary caches, and what is built.
#[derive(Debug, Clone, Args)]
pub struct CacheArgs {
    /// Binary caches to download store paths from, with spaces or commas between them: https://HOST, http://HOST,
    /// file:///DIR or s3://BUCKET, each with ?priority=N and ?trusted=1 as in Nix; if empty, Nix downloads into its store
    /// instead [default: Nix's substituters]
    #[arg(long, env = "FIRN_CACHES", value_name = "URLS", hide_env_values = true)]
    pub caches: Option<String>,

    /// Public keys whose signatures on store paths are trusted, NAME:BASE64, with spaces or commas between them [default:
    /// Nix's trusted-public-keys]
    #[arg(long, env = "FIRN_CACHE_KEYS", value_name = "KEYS")]
    pub cache_keys: Option<String>,

    /// File with the passwords of private binary caches, in the format of .netrc [default: Nix's netrc-file]
    #[arg(long, env = "FIRN_CACHE_NETRC", value_name = "FILE")]
    pub cache_netrc: Option<PathBuf>,

    /// What is built that no binary cache has; with never, nothing is, and no Nix store is needed
    #[arg(long, env = "FIRN_BUILD", value_enum, default_value_t = BuildPolicy::Missing)]
    pub build: BuildPolicy,

    /// Derivations that may be built for one image [default: 50 with binary caches, else unbounded]
    #[arg(long, env = "FIRN_MAX_DERIVATIONS", value_name = "N")]
    pub max_derivations: Option<usize>,
}

/// What is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BuildPolicy {
    /// Nothing
    Never,
    /// What no binary cache has
    Missing,
}

impl CacheArgs {
    /// How many derivations may be built for one image; none where there is no bound.
    pub fn derivation_limit(&self, has_caches: bool) -> Option<usize> {
        self.max_derivations.or(has_caches.then_some(MAX_DERIVATIONS))
    }
}
