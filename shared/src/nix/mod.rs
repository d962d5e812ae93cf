//! Nix's terms: store paths, closures, listings of their files, and Nix's log.

pub mod closure;
pub mod derivation_name;
pub mod dump_db;
pub mod listing;
pub mod log;
pub mod store_path;
