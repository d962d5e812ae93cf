//! The types of the records that the store keeps, and their keys. Records of layers are
//! [`firn_shared::image::layer::LayerRecord`], records of names [`firn_shared::naming::name_index::Names`].

mod image;
mod package;

pub use image::{ImageRecord, ManifestRecord};
pub(crate) use package::{NameRecord, names_key, package_key, packages, survey_key};
