//! What the end-to-end tests share: Firn and container clients as real processes, bounded in time and gone
//! afterwards, and readers of images that share no code with Firn.
//!
//! Nothing here knows Firn's insides: programs are started as people start them, and what comes out is
//! judged by tools that others wrote. Whatever is missing on the machine is an error that names the script
//! that installs it; nothing is skipped.

pub mod azurite;
pub mod backend;
pub mod buildenv;
pub mod caller;
pub mod composition;
pub mod containerd;
pub mod dockerd;
pub mod edge;
pub mod gates;
pub mod gcs;
pub mod git;
pub mod git_server;
pub mod image;
pub mod layer;
pub mod nix;
pub mod package_set;
pub mod podman;
pub mod program;
pub mod random;
pub mod registry;
pub mod s3;
pub mod service;
pub mod skopeo;
pub mod tmpfs;
pub mod tree;
pub mod wait;
pub mod web;
pub mod wrangler;
