//! The meaning of names: image names, package names, and the package set in which packages are looked up.

pub mod flake_dir;
pub mod flake_url;
pub mod image_name;
pub mod name_index;
pub mod nearest;
pub mod package;
pub mod package_name;
pub mod package_source;
pub mod reason;
pub mod source_url;
