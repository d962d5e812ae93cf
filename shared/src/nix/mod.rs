//! Nix's words: store paths, closures, what is in them, and what Nix says.

pub mod closure;
pub mod dump_db;
pub mod listing;
pub mod log;
pub mod store_path;
