//! One file per endpoint.

mod blobs;
mod builds;
mod health;
mod manifests;
mod purge;
mod referrers;
mod tags;

pub(crate) use blobs::blobs;
pub(crate) use builds::builds;
pub(crate) use health::{deep_health, health};
pub(crate) use manifests::manifests;
pub(crate) use purge::purge;
pub(crate) use referrers::{referrers, referrers_by_tag};
pub(crate) use tags::tags;
