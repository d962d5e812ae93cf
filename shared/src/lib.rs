//! The pure heart of Firn: what an image name means and which bytes its image has.
//!
//! Everything here is data and functions. There is no I/O, no async, no clock, no environment, no web
//! framework and no Nix process, so that the same code answers in the Worker (wasm32) and in the backend.

pub mod archive;
pub mod authentication;
pub mod base_url;
pub mod byte_range;
pub mod cache_key;
pub mod client_network;
pub mod closure;
pub mod composition;
pub mod credentials;
pub mod digest;
pub mod discovery;
pub mod dump_db;
pub mod edge_cache;
pub mod endpoint;
pub mod entity_tag;
pub mod forest;
pub mod image;
pub mod image_name;
pub mod layer;
pub mod layering;
pub mod listing;
pub mod media_type;
pub mod name_index;
pub mod nearest;
pub mod nix_log;
pub mod object_key;
pub mod oci_error;
pub mod package;
pub mod package_name;
pub mod package_source;
pub mod patience;
pub mod platform;
pub mod presigned_url;
pub mod protocol;
pub mod reason;
pub mod reference;
pub mod selection;
pub mod settlement;
pub mod source_url;
pub mod store_path;

pub use closure::{Closure, ClosurePath};
pub use digest::{DiffId, Digest};
pub use store_path::StorePath;

#[cfg(test)]
mod hostile_names;
