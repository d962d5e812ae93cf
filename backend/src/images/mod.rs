//! Building images: from a name and a tag to blobs and a record in the store.
//!
//! Read in this order: `package_set` says what the tag names, `request` finds the image or starts a build, `image`
//! makes it of [packages](crate::packages) and [layers](crate::layers), `composition` publishes what edges compose from. A
//! build belongs to no request: it goes on when the request that started it is gone. `contents` says what is in an image.

mod composition;
mod contents;
mod error;
mod explain;
mod image;
mod package_set;
mod request;
mod whole;

pub use contents::Subjects;
pub use error::BuildError;
pub use explain::ExplainedLayer;
pub use package_set::PackageSetState;
pub use request::{BuildResult, ImageStatus, Waiting};

use crate::{
    binary_cache::BinaryCaches,
    layers::LayerPacker,
    nix::Nix,
    package_set::PackageSet,
    packages::{Building, Packages},
    packing::Packer,
    store::Store,
    store_paths::StorePaths,
    waiting::{Builds, Flights, Progress, Queue, Turns, for_a_while},
};
use composition::Published;
use firn_shared::{
    cache_key::CacheKey, layering::Strategy, naming::image_name::ImageName, oci::platform::Platform,
};
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;
use whole::WholeImages;

/// What images come from.
pub struct Origins {
    /// Evaluates, and builds what no cache has.
    pub nix: Nix,
    /// Have most store paths.
    pub caches: BinaryCaches,
    /// In which names are looked up.
    pub set: PackageSet,
}

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
pub struct BuildLimits {
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

/// How many images of known packages are made at once. Each reads some records and writes some files; the packing of a
/// layer that is missing is bounded by the packer.
const COMPOSING: usize = 16;

/// Builds images, each once however many clients ask for it.
pub struct Builder {
    store: Store,
    nix: Arc<Nix>,
    packages: Arc<Packages>,
    layers: Arc<LayerPacker>,
    recipe: Recipe,
    limits: BuildLimits,
    flights: Flights<BuildResult, Progress>,
    queue: Queue,
    /// Turns for work that needs no Nix: to look up what is known of packages, and to make images of known ones.
    composing: Arc<Turns>,
    builds: Builds,
    /// Images that cannot be had, each with what clients were told.
    failures: Cache<CacheKey, Arc<BuildError>>,
    /// Images that had all their blobs when they were last looked at.
    whole: WholeImages,
    /// What an edge composes from and was written not long ago, by key.
    published: Published,
    /// The locks of these records.
    writing: composition::Writing,
    /// What refers to manifests, as far as it was asked for not long ago.
    referring: contents::Referrers,
}

impl Builder {
    /// A builder of these parts.
    pub fn new(
        store: Store,
        Origins { nix, caches, set }: Origins,
        packer: Packer,
        recipe: Recipe,
        building: Building,
        limits: BuildLimits,
    ) -> Arc<Self> {
        let nix = Arc::new(nix);
        let paths = StorePaths::new(store.clone(), caches);
        let ttl = limits.failure_ttl;
        let packages = Packages::new(
            store.clone(),
            Arc::clone(&nix),
            Arc::clone(&paths),
            building,
            set,
            recipe.allow_unfree,
            ttl,
        );
        Arc::new(Self {
            packages,
            layers: LayerPacker::new(store.clone(), Arc::clone(&nix), paths, packer),
            store,
            nix,
            recipe,
            limits,
            flights: Flights::default(),
            queue: Queue::new(limits.queue, limits.queue_per_client),
            composing: Turns::new(COMPOSING),
            builds: Builds::default(),
            failures: for_a_while(ttl),
            whole: whole::none_whole(),
            published: composition::none_published(),
            writing: composition::none_writing(),
            referring: contents::none_referring(limits.grace),
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
        self.packages.end_surveys();
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

    /// The packages that images are made of.
    pub fn packages(&self) -> &Arc<Packages> {
        &self.packages
    }

    /// Nix, for those who count or end its processes.
    pub fn nix(&self) -> &Nix {
        &self.nix
    }

    fn platform_of(&self, name: &ImageName) -> Platform {
        name.platform().unwrap_or(self.recipe.platform)
    }
}
