//! The native half of Firn: Nix, packing, storage and the registry over HTTP.
//!
//! This crate knows nothing of Cloudflare. What a name means and which bytes an image has is in `firn_shared`.

pub mod audience;
pub mod binary_cache;
pub mod build;
mod child_environment;
pub mod commands;
pub mod config;
mod descriptors;
pub mod flights;
pub mod http;
pub mod nix;
pub mod output;
pub mod own_environment;
pub mod package_set;
pub mod packing;
pub mod queue;
pub mod store;
pub mod turns;
pub mod upkeep;
