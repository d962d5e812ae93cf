//! The native half of Firn: Nix, packing, storage and the registry over HTTP.
//!
//! It knows nothing of Cloudflare. What names mean and which bytes images have is in `firn_shared`.

pub mod audience;
pub mod binary_cache;

mod child_environment;
pub mod commands;
pub mod config;
mod descriptors;
pub mod flights;
pub mod http;
pub mod images;
pub mod nix;
pub mod output;
pub mod own_environment;
pub mod package_set;
pub mod packing;
pub mod queue;
pub mod store;
pub mod turns;
pub mod upkeep;
