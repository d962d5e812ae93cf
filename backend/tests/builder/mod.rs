//! Builders for tests of the library.

use firn_backend::{
    binary_cache::{BinaryCaches, TrustedKeys},
    config::BuildPolicy,
    images::{BuildLimits, Builder, Origins, Recipe},
    nix::{EvaluationStore, IsolationPolicy, Nix, NixLimits, OwnFiles},
    package_set::PackageSet,
    packages::Building,
    packing::{Encoder, Packer},
    store::Store,
};
use firn_shared::{layering::Sharing, oci::platform::Platform};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// More than any test needs.
const NIX_LIMITS: NixLimits = NixLimits {
    download_time: Duration::from_secs(60),
    eval_time: Duration::from_secs(120),
    build_time: Duration::from_secs(3600),
    eval_memory: 8 << 30,
    build_memory: None,
    evaluations: 2,
    realisations: 4,
};

/// A builder of images from a package set. Results go to the store, Nix's state to a directory.
pub(crate) fn builder(store: Store, packages: PackageSet, state: &Path) -> Arc<Builder> {
    let nix = Nix::new(NIX_LIMITS, IsolationPolicy::Auto, state, OwnFiles::default(), EvaluationStore::OfNix)
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
    let caches = BinaryCaches::new(&[], TrustedKeys::default(), None).expect("no client is needed");
    let building = Building { policy: BuildPolicy::Missing, max_derivations: None };
    Builder::new(store, Origins { nix, caches, set: packages }, packer, recipe, building, limits)
}
