//! Builders for tests of the library.

use clap::Parser;
use firn_backend::{
    config::NixArgs,
    images::{BuildLimits, Builder, Recipe},
    layers::packing::{Encoder, Packer},
    nix::{Nix, OwnFiles},
    package_set::PackageSet,
    store::Store,
};
use firn_shared::{layering::Sharing, oci::platform::Platform};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    nix: NixArgs,
}

/// A builder of images from a package set. Results go to the store, Nix's state to a directory.
pub(crate) fn builder(store: Store, packages: PackageSet, state: &Path) -> Arc<Builder> {
    let nix = Nix::new(&Options::parse_from(["test"]).nix, state, OwnFiles::default())
        .expect("a directory for state");
    let packer = Packer::new(Encoder::GZIP, std::num::NonZeroUsize::MIN).expect("threads");
    let recipe = Recipe {
        strategy: Box::new(Sharing::default()),
        layer_budget: 94,
        platform: Platform::Amd64,
        allow_unfree: false,
    };
    let limits = BuildLimits {
        queue: 10,
        queue_per_client: 5,
        abandon_after: Duration::from_secs(60),
        closure_bytes: 1 << 30,
        failure_ttl: Duration::from_secs(60),
        grace: Duration::from_secs(60),
        bounded: false,
    };
    Builder::new(store, nix, packages, packer, recipe, limits)
}
