//! The native half of Firn: Nix, packing, storage and the registry over HTTP.
//!
//! This crate knows nothing of Cloudflare. What a name means and which bytes an image has is in `firn_shared`.

pub mod binary_cache;
pub mod commands;
pub mod config;
mod error_chain;
pub mod http;
pub mod images;
pub mod layers;
pub mod nix;
pub mod package_set;
pub mod packages;
pub mod packing;
pub mod process;
pub mod store;
pub mod store_paths;
pub mod upkeep;
pub mod waiting;
