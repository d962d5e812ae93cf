//! The core of Firn: what an image name means and which bytes its image has.
//!
//! This crate has only data and pure functions: no I/O, no async, no clock, no environment, no web framework and no
//! Nix process. So the Worker (wasm32) and the backend run the same code.

pub mod archive;
pub mod cache_key;
pub mod composition;
pub mod contents;
pub mod image;
pub mod layering;
pub mod link;
pub mod naming;
pub mod nix;
pub mod oci;

pub use nix::{
    closure::{Closure, ClosurePath},
    store_path::StorePath,
};
pub use oci::digest::{DiffId, Digest};
