//! Putting a [`Builder`] together from options, for the commands that build.

use super::Failure;
use crate::{
    build::{Builder, Limits, Recipe},
    config::{ImageArgs, NixArgs, RetentionArgs, SourceArgs, StorageArgs},
    nix::{Nix, OwnFiles},
    own_environment,
    package_set::PackageSet,
    packing::Packer,
    store::Store,
};
use clap::Args;
use firn_shared::{naming::package_source::Revisions, oci::platform::Platform};
use std::io;
use std::path::PathBuf;
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

    /// Nix with these options, kept from Firn's own files and these secret ones.
    ///
    /// # Errors
    /// As [`Nix::new`].
    pub(super) fn nix(&self, secrets: Vec<PathBuf>) -> io::Result<Nix> {
        let storage = self.storage.storage_url().map_err(io::Error::other)?;
        let hidden = storage.strip_prefix("file://").map(PathBuf::from).into_iter().collect();
        let named =
            ["GOOGLE_APPLICATION_CREDENTIALS", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE"];
        let named = named.into_iter().filter_map(own_environment::variable).map(PathBuf::from);
        let secrets = secrets.into_iter().chain(named).collect();
        let strangers = self.source.source().is_ok_and(|(_, revisions)| revisions == Revisions::Any);
        let others = OwnFiles { hidden, secrets, strangers, ..OwnFiles::default() };
        Nix::new(&self.nix, &self.storage.data_dir().map_err(io::Error::other)?, others)
    }

    /// A builder with these options, for a person at the command line, who chooses what is evaluated.
    pub(super) async fn builder(&self) -> Result<Arc<Builder>, Failure> {
        self.builder_of(Vec::new(), PackageSet::trusting_callers).await
    }

    /// A builder with these options for a server, which has these files with secrets.
    pub(super) async fn builder_of_server(&self, secrets: Vec<PathBuf>) -> Result<Arc<Builder>, Failure> {
        self.builder_of(secrets, |packages| packages).await
    }

    async fn builder_of(
        &self,
        secrets: Vec<PathBuf>,
        trusting: impl FnOnce(PackageSet) -> PackageSet,
    ) -> Result<Arc<Builder>, Failure> {
        let (source, revisions) = self.source.source()?;
        let channels = self.source.channels()?;
        let data = self.storage.data_dir()?;
        let url = self.storage.storage_url()?;
        let staging = data.join("staging");
        let store =
            Store::open(&url, &staging).map_err(|error| Failure::Usage(crate::build::chain(&error)))?;
        let store = self.retention.limit(store).await.map_err(|error| Failure::error(&error))?;
        let nix = self.nix(secrets).map_err(|error| Failure::error(&error))?;
        if revisions == Revisions::Any && !nix.is_apart() {
            return Err(Failure::Usage(
                "--revisions any lets strangers choose what is run here, and Nix cannot be kept apart from Firn: install \
                 bubblewrap (bwrap), or choose --revisions refs"
                    .into(),
            ));
        }
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
            bounded: self.retention.policy().budget.is_some(),
        };
        let packages = PackageSet::new(source, revisions, &data, self.source.fetch_limit());
        let packages = trusting(packages.map_err(|error| Failure::error(&error))?);
        let packages = match channels {
            Some(server) => packages.with_channels(server),
            None => packages,
        };
        Ok(Builder::new(store, nix, packages, packer, recipe, limits))
    }
}
