//! The pure heart of Firn: what an image name means and which bytes its image has.
//!
//! Everything here is data and functions. There is no I/O, no async, no clock, no environment, no web
//! framework and no Nix process, so that the same code answers in the Worker (wasm32) and in the backend.

pub mod archive;
pub mod cache_key;
pub mod composition;
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
