//! The pure heart of Firn: what an image name means and which bytes its image has.
//!
//! Everything here is data and functions. There is no I/O, no async, no clock, no environment, no web
//! framework and no Nix process, so that the same code answers in the Worker (wasm32) and in the backend.

pub mod closure;
pub mod digest;
pub mod dump_db;
pub mod store_path;

pub use closure::{Closure, ClosurePath};
pub use digest::{DiffId, Digest};
pub use store_path::StorePath;
