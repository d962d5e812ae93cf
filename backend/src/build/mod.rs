//! Building images: from a name and a tag to blobs and a record in the store.
//!
//! Read in this order: `package_set` says what the tag names, `request` finds the image or starts a build, `image`
//! makes it: `packages` asks Nix for what is not yet known of the packages, `layers` packs what was never packed. A
//! build belongs to nobody: it goes on when the request that started it is gone.

mod composition;
mod error;
mod evaluations;
mod explain;
mod image;
mod layers;
mod links;
mod listing;
mod names;
mod package_set;
mod packages;
mod progress;
mod request;
mod survey;
mod whole;

pub(crate) use error::DEFECT;
pub use error::{BuildError, chain};
pub use explain::ExplainedLayer;
pub use image::{ImageRecord, ManifestRecord};
pub use names::IndexOutcome;
pub use package_set::PackageSetState;
pub(crate) use packages::{names_key, package_key, remembered};
pub use progress::{BuildPage, Builds, Phase, Progress};
pub use request::{Outcome, Request, Waiting};
pub(crate) use whole::{StoredManifest, parts};

use crate::{
    flights::Flights, nix::Nix, package_set::PackageSet, packing::Packer, queue::Queue, store::Store,
    turns::Turns,
};
use composition::Published;
use evaluations::Evaluations;
use firn_shared::{
    cache_key::CacheKey, image_name::ImageName, layer::LayerRecord, layering::Strategy,
    package::PackageProblem, platform::Platform,
};
use moka::sync::Cache;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use whole::WholeImages;

/// What all images of this instance have in common.
#[derive(Debug)]
pub struct Recipe {
    /// How store paths are put into layers.
    pub strategy: Box<dyn Strategy>,
    /// How many layers an image has at most, without the one of symlinks.
    pub layer_budget: usize,
    /// The platform of images whose name asks for none.
    pub platform: Platform,
    /// Whether packages with unfree licences are served.
    pub allow_unfree: bool,
}

/// How much is built at once, and for how long failures are believed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Images that may be waiting or building at once; further ones are told to come back.
    pub queue: usize,
    /// How many of them one client may have.
    pub queue_per_client: usize,
    /// How long an image stays in the queue that nobody asks for any more, if its build has not begun.
    pub abandon_after: Duration,
    /// The largest closure that an image may have, in bytes of NAR.
    pub closure_bytes: u64,
    /// How long a failure that would be the same at the next attempt is remembered.
    pub failure_ttl: Duration,
    /// For how long garbage collection leaves alone what was in use a moment ago.
    pub grace: Duration,
    /// Whether the storage has a budget, so that it keeps what no image has for that long only.
    pub bounded: bool,
}

/// How many records are asked for at once: a bucket may be far away.
const LOOKUPS: usize = 16;

/// How many images of known packages are made at once. Each reads some records and writes some files; the packing of a
/// layer that is missing is bounded by the packer.
const COMPOSING: usize = 16;

/// How many failures are remembered.
const MAX_FAILURES: u64 = 10_000;

/// How many indexes of names are kept in memory; one of nixpkgs takes some 20 MB.
const MAX_INDEXES: u64 = 4;

/// Everything that building takes.
pub struct Builder {
    store: Store,
    nix: Nix,
    packages: PackageSet,
    packer: Arc<Packer>,
    recipe: Recipe,
    limits: Limits,
    images: Flights<Outcome, Progress>,
    queue: Queue,
    /// For what needs no Nix: looking up what is known of packages, and making images of known ones.
    composing: Arc<Turns>,
    builds: Builds,
    /// Packages that cannot be had, by key, so that asking again costs no evaluation.
    problems: Cache<CacheKey, PackageProblem>,
    /// What is known of names that were evaluated lately.
    evaluations: Evaluations,
    /// Images that cannot be had, likewise, each with what clients were told.
    failures: Cache<CacheKey, Arc<BuildError>>,
    layers: Flights<Result<LayerRecord, Arc<BuildError>>>,
    /// Images that nothing was missing of when they were last looked at.
    whole: WholeImages,
    /// Names of package sets, and that they cannot be listed.
    indexes: Cache<CacheKey, IndexOutcome>,
    index_flights: Flights<IndexOutcome>,
    surveys_allowed: AtomicBool,
    /// Held while a survey runs.
    surveying: Arc<tokio::sync::Mutex<()>>,
    /// What an edge composes from and was written not long ago, by key.
    published: Published,
    writing: composition::Writing,
    /// Held while layers are packed that no image has asked for yet.
    completing: Arc<tokio::sync::Mutex<()>>,
}

impl Builder {
    /// A builder of these parts.
    pub fn new(
        store: Store,
        nix: Nix,
        packages: PackageSet,
        packer: Packer,
        recipe: Recipe,
        limits: Limits,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            nix,
            packages,
            packer: Arc::new(packer),
            recipe,
            limits,
            images: Flights::default(),
            queue: Queue::new(limits.queue, limits.queue_per_client),
            composing: Turns::new(COMPOSING),
            builds: Builds::default(),
            problems: for_a_while(limits.failure_ttl),
            evaluations: Evaluations::new(limits.failure_ttl),
            failures: for_a_while(limits.failure_ttl),
            layers: Flights::default(),
            whole: whole::none_whole(),
            indexes: Cache::builder().max_capacity(MAX_INDEXES).time_to_live(limits.failure_ttl).build(),
            index_flights: Flights::default(),
            surveys_allowed: AtomicBool::new(false),
            surveying: Arc::default(),
            published: composition::none_published(),
            writing: composition::none_writing(),
            completing: Arc::default(),
        })
    }

    /// The build with this id, while it is remembered.
    pub fn progress(&self, id: &str) -> Option<Progress> {
        self.builds.get(id)
    }

    /// How many images are waiting or being built.
    pub fn building(&self) -> usize {
        self.queue.len()
    }

    /// How long an image stays in the queue that nobody asks for any more.
    pub fn abandon_after(&self) -> Duration {
        self.limits.abandon_after
    }

    /// Begins no more builds; those that run go on.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Whether no more builds are begun.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Returns when nothing is being built.
    pub async fn idle(&self) {
        self.queue.empty().await;
    }

    /// Removes what is unfinished, for when this process ends though something may still write it.
    pub fn remove_files(&self) {
        self.store.remove_unfinished();
        self.nix.remove_roots();
    }

    /// Where the results are.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Nix, for those who count its processes.
    pub fn nix(&self) -> &Nix {
        &self.nix
    }

    fn platform_of(&self, name: &ImageName) -> Platform {
        name.platform().unwrap_or(self.recipe.platform)
    }
}

fn for_a_while<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static>(
    ttl: Duration,
) -> Cache<K, V> {
    Cache::builder().max_capacity(MAX_FAILURES).time_to_live(ttl).build()
}
