//! Shared by the end-to-end tests: Firn and container clients as real processes with time limits, which end with the
//! test, and readers of images that share no code with Firn.
//!
//! Nothing here knows Firn's internals: programs are started as users start them, and the results are checked by
//! independent tools. If a tool is missing, the error names the script that installs it; no test is skipped.

pub mod azurite;
pub mod backend;
pub mod binary_cache;
pub mod buildenv;
pub mod caller;
pub mod composition;
pub mod containerd;
pub mod dockerd;
pub mod edge;
pub mod empty_store;
pub mod gates;
pub mod gcs;
pub mod git;
pub mod git_server;
pub mod image;
pub mod judges;
pub mod layer;
pub mod nix;
pub mod node;
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
