//! Makes a [`Builder`] from the options of a command.

use super::{Failure, caches, data_dir, layering_data};
use crate::{
    config::{
        BuildPolicy, CacheArgs, ConfigError, ImageArgs, IsolationArg, NixArgs, RetentionArgs, SourceArgs,
        StorageArgs,
    },
    images::{BuildLimits, Builder, Origins, Recipe},
    nix::{EvaluationStore, IsolationPolicy, Nix, NixLimits, OwnFiles},
    package_set::PackageSet,
    packages::Building,
    packing::Packer,
    process::own_environment,
    store::Store,
};
use clap::Args;
use firn_shared::{
    naming::package_source::{PackageSource, Revisions},
    oci::platform::Platform,
};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

/// The options of every command that builds.
#[derive(Debug, Clone, Args)]
pub(super) struct BuilderArgs {
    #[command(flatten)]
    pub(super) source: SourceArgs,
    #[command(flatten)]
    pub(super) storage: StorageArgs,
    #[command(flatten)]
    pub(super) nix: NixArgs,
    #[command(flatten)]
    pub(super) caches: CacheArgs,
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

    /// The package source that is given, and what callers may choose in it.
    ///
    /// # Errors
    /// As [`SourceArgs::source`], and when the source is a path where nothing is.
    pub(super) fn source(&self) -> Result<(PackageSource, Revisions), ConfigError> {
        let (source, revisions) = self.source.source()?;
        match &source {
            PackageSource::Path { path, flake } if !path.exists() => {
                let option = if flake.is_some() { "--flake path:" } else { "--pkgs-path " };
                Err(ConfigError(format!("{option}{} does not exist", path.display())))
            }
            _ => Ok((source, revisions)),
        }
    }

    /// Nix with these options, kept from Firn's own files and these secret ones.
    ///
    /// # Errors
    /// See [`Nix::new`].
    pub(super) fn nix(&self, secrets: Vec<PathBuf>) -> io::Result<Nix> {
        let storage = self.storage.storage_url().map_err(io::Error::other)?;
        let hidden = storage.strip_prefix("file://").map(PathBuf::from).into_iter().collect();
        let named =
            ["GOOGLE_APPLICATION_CREDENTIALS", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE"];
        let named = named.into_iter().filter_map(own_environment::variable).map(PathBuf::from);
        let secrets = secrets.into_iter().chain(named).chain(self.caches.cache_netrc.clone()).collect();
        let strangers = self.source.source().is_ok_and(|(_, revisions)| revisions == Revisions::Any);
        let others = OwnFiles { hidden, secrets, strangers, ..OwnFiles::default() };
        let data = data_dir::make(&self.storage).map_err(io::Error::other)?;
        // Where nothing is realised, evaluation needs no other store than its own.
        let store = match self.caches.build {
            BuildPolicy::Never => EvaluationStore::Own,
            BuildPolicy::Missing => EvaluationStore::OfNix,
        };
        let limits = nix_limits(&self.nix, self.source.fetch_limit());
        Nix::new(limits, isolation(self.nix.isolation), &data, others, store)
    }

    /// A builder for a command. It trusts the person at the command line, who chooses what is evaluated.
    pub(super) async fn builder(&self) -> Result<Arc<Builder>, Failure> {
        self.builder_of(Vec::new(), PackageSet::trusting_callers).await
    }

    /// A builder for a server. `secrets` are its files with secrets, which Nix must not read.
    pub(super) async fn builder_of_server(&self, secrets: Vec<PathBuf>) -> Result<Arc<Builder>, Failure> {
        self.builder_of(secrets, |packages| packages).await
    }

    async fn builder_of(
        &self,
        secrets: Vec<PathBuf>,
        trusting: impl FnOnce(PackageSet) -> PackageSet,
    ) -> Result<Arc<Builder>, Failure> {
        let (source, revisions) = self.source()?;
        let channels = self.source.channels()?;
        let data = data_dir::make(&self.storage)?;
        let url = self.storage.storage_url()?;
        let staging = data.join("staging");
        let store =
            Store::open(&url, &staging).map_err(|error| Failure::Usage(crate::error_chain::chain(&error)))?;
        let policy = self.retention.policy();
        let store = store.with_grace(policy.grace);
        if let Some(bytes) = policy.budget {
            store.limit(bytes).await.map_err(|error| Failure::error(&error))?;
        }
        let nix = self.nix(secrets).map_err(|error| Failure::error(&error))?;
        if revisions == Revisions::Any && !nix.is_apart() {
            return Err(Failure::Usage(
                "with --revisions any, strangers choose what is run here, and Nix cannot be isolated from Firn: install \
                 bubblewrap (bwrap), or choose --revisions refs"
                    .into(),
            ));
        }
        let configured = caches::configured(&self.caches, &nix).await?;
        let nix = nix.with_substituters(caches::settings_for_nix(&self.caches, &configured));
        let has_caches = !configured.caches.is_empty();
        let building =
            Building { policy: self.caches.build, max_derivations: self.caches.derivation_limit(has_caches) };
        let threads = available_parallelism().map_err(|error| Failure::error(&error))?;
        let packer = Packer::new(self.image.compression, threads)
            .map_err(|error| Failure::error(&error))?
            .spooling_in(&data);
        let recipe = Recipe {
            strategy: layering_data::strategy(&self.image).await?,
            layer_budget: self.image.layer_budget.into(),
            platform: self.nix.platform(),
            allow_unfree: self.nix.allow_unfree,
        };
        let limits = BuildLimits {
            queue: self.nix.max_queue,
            queue_per_client: self.nix.max_queue_per_client,
            abandon_after: Duration::from_secs(self.nix.abandon_after),
            closure_bytes: self.image.max_closure << 20,
            failure_ttl: Duration::from_secs(self.nix.failure_ttl),
            grace: policy.grace,
            bounded: policy.budget.is_some(),
        };
        let packages = PackageSet::new(source, revisions, &data, self.source.fetch_limit());
        let packages = trusting(packages.map_err(|error| Failure::error(&error))?)
            .with_archives(self.source.archive_hosts.clone());
        let packages = match channels {
            Some(server) => packages.with_channels(server),
            None => packages,
        };
        let origins = Origins { nix, caches: configured.caches, set: packages };
        Ok(Builder::new(store, origins, packer, recipe, building, limits))
    }
}

fn nix_limits(args: &NixArgs, download_time: Duration) -> NixLimits {
    NixLimits {
        eval_time: Duration::from_secs(args.eval_timeout),
        download_time,
        build_time: Duration::from_secs(args.nix_timeout),
        eval_memory: args.eval_memory << 20,
        build_memory: args.build_memory.map(|mebibytes| mebibytes << 20),
        evaluations: args.max_evaluations,
        realisations: args.max_realisations,
    }
}

fn isolation(arg: IsolationArg) -> IsolationPolicy {
    match arg {
        IsolationArg::Auto => IsolationPolicy::Auto,
        IsolationArg::Always => IsolationPolicy::Always,
        IsolationArg::Never => IsolationPolicy::Never,
    }
}
