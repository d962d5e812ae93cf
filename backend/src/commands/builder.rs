//! Putting a [`Builder`] together from options, for the commands that build.

use super::Failure;
use crate::{
    build::{Builder, Limits, Recipe},
    config::{ImageArgs, NixArgs, RetentionArgs, SourceArgs, StorageArgs},
    nix::Nix,
    package_set::PackageSet,
    packing::Packer,
    store::Store,
};
use clap::Args;
use firn_shared::platform::Platform;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

/// The options that every building command has.
#[derive(Debug, Clone, Args)]
pub(super) struct BuilderArgs {
    #[command(flatten)]
    pub(super) source: SourceArgs,
    #[command(flatten)]
    pub(super) storage: StorageArgs,
    #[command(flatten)]
    pub(super) nix: NixArgs,
    #[command(flatten)]
    pub(super) image: ImageArgs,
    #[command(flatten)]
    pub(super) retention: RetentionArgs,
}

impl BuilderArgs {
    /// The platform of images whose name asks for none.
    pub(super) fn platform(&self) -> Platform {
        self.nix.platform()
    }

    /// A builder with these options.
    pub(super) async fn builder(&self) -> Result<Arc<Builder>, Failure> {
        let (source, revisions) = self.source.source()?;
        let data = self.storage.data_dir()?;
        let url = self.storage.storage_url()?;
        let staging = data.join("staging");
        let store =
            Store::open(&url, &staging).map_err(|error| Failure::Usage(crate::build::chain(&error)))?;
        let store = self.retention.limit(store).await.map_err(|error| Failure::error(&error))?;
        let nix = Nix::new(&self.nix, &data).map_err(|error| Failure::error(&error))?;
        let threads = available_parallelism().map_err(|error| Failure::error(&error))?;
        let packer = Packer::new(self.image.compression, threads).map_err(|error| Failure::error(&error))?;
        let recipe = Recipe {
            strategy: self.image.strategy().await?,
            layer_budget: self.image.layer_budget.into(),
            platform: self.nix.platform(),
            allow_unfree: self.nix.allow_unfree,
        };
        let limits = Limits {
            queue: self.nix.max_queue,
            queue_per_client: self.nix.max_queue_per_client,
            abandon_after: Duration::from_secs(self.nix.abandon_after),
            closure_bytes: self.image.max_closure << 20,
            failure_ttl: Duration::from_secs(self.nix.failure_ttl),
            grace: self.retention.policy().grace,
        };
        let packages = PackageSet::new(source, revisions, &data, self.source.fetch_limit());
        let packages = packages.map_err(|error| Failure::error(&error))?;
        Ok(Builder::new(store, nix, packages, packer, recipe, limits))
    }
}
