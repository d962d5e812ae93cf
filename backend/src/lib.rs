//! The native half of Firn: Nix, packing, storage and the registry over HTTP.

pub mod packing;
