//! Which packages a name means: looked up in records, or found out with Nix and recorded.
//!
//! Read in this order: `lookup` finds what is on record and asks Nix for the rest, `evaluations` resolves names,
//! `closures` finds their closures in binary caches, and has those realised that no cache has (`realisation`), `description` says
//! what is in their files (`contents`, `listing`, `links`, `files`). `renewal` replaces records that no longer agree with the Nix store. `names` and `survey` make the index of all names of the package set.
//!
//! Nothing here knows layers or images.

mod closures;
mod contents;
mod description;
mod error;
mod evaluations;
mod files;
mod known;
mod links;
mod listing;
mod lookup;
mod names;
mod realisation;
mod renewal;
mod survey;

pub use error::PackageError;
pub(crate) use known::{Known, Recalled};
pub use names::IndexOutcome;

use crate::{
    config::BuildPolicy,
    nix::Nix,
    package_set::{PackageSet, Trust},
    store::{Store, package_key},
    store_paths::StorePaths,
    waiting::{Client, Flights, QueueError, for_a_while},
};
use evaluations::Evaluations;
use firn_shared::{
    cache_key::CacheKey,
    naming::{
        flake_dir::FlakeDir, package::PackageProblem, package_name::PackageName, package_source::Revision,
    },
    oci::{platform::Platform, reference::Tag},
};
use moka::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How many indexes of names are kept in memory; one of nixpkgs takes some 20 MB.
const MAX_INDEXES: u64 = 4;

/// What is built that no binary cache has.
#[derive(Debug, Clone, Copy)]
pub struct Building {
    /// Whether anything is.
    pub policy: BuildPolicy,
    /// How many derivations may be built for one image; none where there is no bound.
    pub max_derivations: Option<usize>,
}

/// The packages of a package set.
pub struct Packages {
    store: Store,
    nix: Arc<Nix>,
    paths: Arc<StorePaths>,
    building: Building,
    set: PackageSet,
    /// Whether packages with unfree licences are served.
    allow_unfree: bool,
    /// Packages that cannot be had, by key, so that asking again costs no evaluation.
    problems: Cache<CacheKey, PackageProblem>,
    evaluations: Evaluations,
    /// Indexes of names, and the failures to make one.
    indexes: Cache<CacheKey, IndexOutcome>,
    index_flights: Flights<IndexOutcome>,
    surveys_allowed: AtomicBool,
    /// Held while a survey runs.
    surveying: Arc<tokio::sync::Mutex<()>>,
}

impl Packages {
    /// The packages of this set, with their records in this store. Failures are remembered for `failure_ttl`.
    pub(crate) fn new(
        store: Store,
        nix: Arc<Nix>,
        paths: Arc<StorePaths>,
        building: Building,
        set: PackageSet,
        allow_unfree: bool,
        failure_ttl: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            nix,
            paths,
            building,
            set,
            allow_unfree,
            problems: for_a_while(failure_ttl),
            evaluations: Evaluations::new(failure_ttl),
            indexes: Cache::builder().max_capacity(MAX_INDEXES).time_to_live(failure_ttl).build(),
            index_flights: Flights::default(),
            surveys_allowed: AtomicBool::new(false),
            surveying: Arc::default(),
        })
    }

    /// The revision that a tag means now; the source is asked at most once per short interval.
    ///
    /// # Errors
    /// When the tag means nothing, or the source cannot be asked.
    pub(crate) async fn revision(&self, tag: &Tag, client: Client) -> Result<Revision, PackageError> {
        Ok(self.set.revision(tag, client).await?)
    }

    /// The directory of the flake, if the package set is one.
    pub(crate) fn flake(&self) -> Option<&FlakeDir> {
        self.set.flake()
    }

    /// Whose code a revision is.
    pub(crate) fn trust(&self, revision: &Revision) -> Trust {
        self.set.trust(revision)
    }

    /// Refuses a client that has caused too many evaluations that took too long.
    ///
    /// # Errors
    /// [`QueueError::Overran`].
    pub(crate) fn admit(&self, client: Client) -> Result<(), QueueError> {
        self.evaluations.check(client)
    }

    fn key(&self, revision: &Revision, platform: Platform, name: &PackageName) -> CacheKey {
        package_key(revision, platform, self.allow_unfree, name)
    }

    /// What is recorded of the trust in binary caches.
    pub(crate) fn cache_trust(&self) -> Option<String> {
        self.paths.trust().map(|trust| trust.to_string())
    }
}
