//! One file per endpoint.

mod blobs;
mod manifests;
mod tags;

pub(crate) use blobs::blobs;
pub(crate) use manifests::{Wanted, manifests};
pub(crate) use tags::tags;
