//! One file per endpoint.

mod blobs;
mod builds;
mod health;
mod manifests;
mod purge;
mod tags;

pub(crate) use blobs::blobs;
pub(crate) use builds::builds;
pub(crate) use health::{deep_health, health};
pub(crate) use manifests::manifests;
pub(crate) use purge::purge;
pub(crate) use tags::tags;
