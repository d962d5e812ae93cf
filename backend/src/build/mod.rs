//! Building images: from a name and a tag to blobs and a record in the store.
//!
//! Read top to bottom: [`Builder::image`] finds what is there or starts a build, `packages` asks Nix for
//! what is not yet known of the packages, `layers` packs what was never packed, and the rest composes the
//! image and stores it. A build belongs to nobody: it goes on when the request that started it is gone.

mod composition;
mod error;
mod explain;
mod layers;
mod listing;
mod names;
mod packages;
mod progress;
mod whole;

pub use error::{BuildError, chain};
pub use explain::ExplainedLayer;
pub use names::IndexOutcome;
pub(crate) use packages::{names_key, package_key};
pub use progress::{BuildPage, Builds, Phase, Progress};
pub(crate) use whole::{StoredManifest, parts};

use crate::{
    flights::{Flight, Flights},
    nix::Nix,
    package_set::PackageSet,
    packing::Packer,
    queue::Queue,
    store::{RecordKind, Store},
    turns::Client,
};
use firn_shared::{
    Closure, Digest,
    cache_key::CacheKey,
    image::{self, Blueprint, Ingredients, SmallBlob},
    image_name::ImageName,
    layer::{LayerPlan, LayerRecord},
    layering::Strategy,
    package::PackageProblem,
    package_source::Revision,
    platform::Platform,
    reference::Tag,
    selection::select,
};
use futures::future::try_join_all;
use moka::sync::Cache;
use packages::Known;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use whole::WholeImages;

/// A finished image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Its name in canonical form.
    pub name: String,
    /// The package set that it is from.
    pub revision: Revision,
    /// Its OCI manifest.
    pub oci: ManifestRecord,
    /// The same in Docker's media types, where they can express it.
    pub docker: Option<ManifestRecord>,
    /// Paths at which packages conflicted; what the first one brought was kept.
    pub conflicts: Vec<String>,
}

/// A stored manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecord {
    /// Its digest.
    pub digest: Digest,
    /// Its size, in bytes.
    pub size: u64,
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
pub struct Limits {
    /// Images that may be waiting or building at once; further ones are told to come back.
    pub queue: usize,
    /// The largest closure that an image may have, in bytes of NAR.
    pub closure_bytes: u64,
    /// How long a failure that would be the same at the next attempt is remembered.
    pub failure_ttl: Duration,
    /// For how long garbage collection leaves alone what was in use a moment ago.
    pub grace: Duration,
}

/// How often a build that took longer than the grace period looks whether its layers are still there.
const ATTEMPTS: usize = 3;

/// How many failures are remembered.
const MAX_FAILURES: u64 = 10_000;

/// How many indexes of names are kept in memory; one of nixpkgs takes some 20 MB.
const MAX_INDEXES: u64 = 4;

/// What a build comes to. Shared by all who wait for it.
pub type Outcome = Result<Arc<ImageRecord>, Arc<BuildError>>;

/// Everything that building takes.
pub struct Builder {
    store: Store,
    nix: Nix,
    packages: PackageSet,
    packer: Arc<Packer>,
    recipe: Recipe,
    limits: Limits,
    images: Flights<Outcome>,
    queue: Queue,
    builds: Builds,
    /// Packages that cannot be had, by key, so that asking again costs no evaluation.
    problems: Cache<CacheKey, PackageProblem>,
    /// Images that cannot be had, likewise, each with what clients were told.
    failures: Cache<CacheKey, Arc<BuildError>>,
    layers: Flights<Result<LayerRecord, Arc<BuildError>>>,
    /// Images that nothing was missing of when they were last looked at.
    whole: WholeImages,
    /// Names of package sets, and that they cannot be listed.
    indexes: Cache<CacheKey, IndexOutcome>,
    index_flights: Flights<IndexOutcome>,
    /// What an edge composes from and was written not long ago, by key.
    published: Cache<CacheKey, ()>,
}

/// Where a request for an image stands.
pub enum Request {
    /// It is there.
    Ready(Arc<ImageRecord>),
    /// It is being built.
    Building(Flight<Outcome>, Progress),
}

/// Everything that determines an image but its name.
#[derive(Debug, Clone)]
pub struct PackageSetState {
    /// The package set.
    pub revision: Revision,
    /// The package set and the recipe: images of one name and one token are the same for ever.
    pub token: CacheKey,
}

impl PackageSetState {
    /// What the image of this name is kept by.
    pub fn image_key(&self, name: &ImageName) -> CacheKey {
        CacheKey::builder("image-1").field(self.token.to_string()).field(name.to_string()).build()
    }
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
            queue: Queue::new(limits.queue),
            builds: Builds::default(),
            problems: for_a_while(limits.failure_ttl),
            failures: for_a_while(limits.failure_ttl),
            layers: Flights::default(),
            whole: whole::none_whole(),
            indexes: Cache::builder().max_capacity(MAX_INDEXES).time_to_live(limits.failure_ttl).build(),
            index_flights: Flights::default(),
            published: composition::none_published(),
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

    /// Where the results are.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Nix, for those who count its processes.
    pub fn nix(&self) -> &Nix {
        &self.nix
    }

    /// What a tag means right now.
    ///
    /// # Errors
    /// When the tag means nothing, or what it means cannot be found out.
    pub async fn package_set(&self, tag: &Tag, client: Client) -> Result<PackageSetState, BuildError> {
        Ok(self.package_set_at(self.revision(tag, client).await?))
    }

    /// The revision that a tag means right now; looked up in the source once per short interval.
    ///
    /// # Errors
    /// When the tag means nothing, or what it means cannot be found out.
    pub async fn revision(&self, tag: &Tag, client: Client) -> Result<Revision, BuildError> {
        Ok(self.packages.revision(tag, client).await?)
    }

    /// The package set of a revision.
    pub fn package_set_at(&self, revision: Revision) -> PackageSetState {
        let token = self.token(&revision);
        PackageSetState { revision, token }
    }

    fn token(&self, revision: &Revision) -> CacheKey {
        let recipe = &self.recipe;
        CacheKey::builder("package-set-3")
            .field(image::FORMAT.to_le_bytes())
            .field(serde_json::to_vec(revision).expect("revisions serialise"))
            .field(recipe.strategy.version())
            .field(recipe.layer_budget.to_le_bytes())
            .field(recipe.platform.system())
            .field([u8::from(recipe.allow_unfree)])
            .field(self.packer.encoder().identity())
            .build()
    }

    /// The image of this name, or the build that it is waiting for; starts the build if nobody has.
    ///
    /// # Errors
    /// When the store cannot be read, or there is no place in the queue.
    pub async fn image(
        self: &Arc<Self>,
        name: &ImageName,
        tag: &Tag,
        set: &PackageSetState,
        client: Client,
    ) -> Result<Request, BuildError> {
        let key = set.image_key(name);
        if let Some(record) = self.store.record::<ImageRecord>(RecordKind::Image, &key).await? {
            if self.is_whole(&key, &record).await? {
                self.store.note_pull(&key);
                return Ok(Request::Ready(Arc::new(record)));
            }
            self.store.remove_record(RecordKind::Image, &key).await?;
        }
        if let Some(error) = self.failures.get(&key) {
            return Err(BuildError::Shared(error));
        }
        let start = || {
            let place = self.queue.enter(client)?;
            let progress = Progress::new(name.to_string(), client);
            self.builds.add(key, &progress);
            let (name, tag, revision) = (name.clone(), tag.clone(), set.revision.clone());
            let build = Arc::clone(self).build_and_tell(name, tag, revision, key, progress);
            Ok(async move {
                let _place = place;
                build.await
            })
        };
        let flight = self.images.join_or(key, start).map_err(BuildError::Queue)?;
        // Forgotten only when hundreds of other builds have begun since.
        let progress = self.builds.latest(&key).unwrap_or_else(|| Progress::new(name.to_string(), client));
        Ok(Request::Building(flight, progress))
    }

    /// Notes that an image is there by this tag. Several tags can mean one revision, so that an image may
    /// have been built by another.
    pub async fn note_tag(&self, name: &ImageName, tag: &Tag) {
        // Only the tag list depends on it.
        if let Err(error) = self.store.note_tag(name, tag).await {
            tracing::warn!(image.name = %name, error = %chain(&error), "tag not noted");
        }
    }

    /// A whole build, with everything said that there is to say about it.
    async fn build_and_tell(
        self: Arc<Self>,
        name: ImageName,
        tag: Tag,
        revision: Revision,
        key: CacheKey,
        progress: Progress,
    ) -> Outcome {
        let started = Instant::now();
        let result = match self.build(&name, &revision, &key, &progress).await {
            Err(BuildError::Selection(error)) => {
                let platform = name.platform().unwrap_or(self.recipe.platform);
                Err(self.suggest(error, &revision, platform).await)
            }
            result => result,
        };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match result {
            Ok(record) => {
                self.note_tag(&name, &tag).await;
                tracing::info!(image.name = %name, image.digest = %record.oci.digest, duration_ms, "built");
                progress.enter(Phase::Done { digest: record.oci.digest.to_string() });
                Ok(Arc::new(record))
            }
            Err(error) => {
                tracing::warn!(image.name = %name, error = %chain(&error), duration_ms, "not built");
                progress.enter(Phase::Failed { message: error.to_oci_error().message });
                let error = Arc::new(error);
                if error.is_lasting() {
                    self.failures.insert(key, Arc::clone(&error));
                }
                Err(error)
            }
        }
    }

    /// Everything about an image but its layers' bytes, and what was learned of its packages.
    async fn prepare(
        &self,
        name: &ImageName,
        revision: &Revision,
        progress: &Progress,
        group: impl FnOnce(&Closure) -> Vec<Vec<usize>>,
    ) -> Result<(Blueprint, Known), BuildError> {
        let platform = self.platform_of(name);
        let requested: BTreeSet<_> = name.packages().cloned().collect();
        let known = self.packages_of(revision, platform, name.candidates(), &requested, progress).await?;
        let selected = select(name, |package| known.package(package))?;
        let packages: Vec<_> = selected.iter().map(|selected| selected.as_deref()).collect();
        let revision_date = known.revision_date;
        let blueprint = Blueprint::new(
            Ingredients { name, platform, revision, revision_date, packages: &packages },
            group,
            &self.packer.encoder().encoding(),
        )?;
        let size = blueprint.nar_size();
        if size > self.limits.closure_bytes {
            return Err(BuildError::TooLarge { size, limit: self.limits.closure_bytes });
        }
        for conflict in &blueprint.conflicts {
            tracing::info!(image.name = %name, path = conflict.path, dropped = %conflict.dropped, "conflict");
        }
        Ok((blueprint, known))
    }

    fn platform_of(&self, name: &ImageName) -> Platform {
        name.platform().unwrap_or(self.recipe.platform)
    }

    async fn build(
        self: &Arc<Self>,
        name: &ImageName,
        revision: &Revision,
        key: &CacheKey,
        progress: &Progress,
    ) -> Result<ImageRecord, BuildError> {
        // What was realised just now stays in the Nix store until its layers are packed.
        let group = |closure: &Closure| self.recipe.strategy.group(closure, self.recipe.layer_budget);
        let (blueprint, mut known) = self.prepare(name, revision, progress, group).await?;
        let mut looked = Instant::now();
        let mut layers = self.pack_vanished(&blueprint.layers, name, revision, progress).await?;
        known.let_go();
        // Garbage collection leaves a layer's blob alone for the grace period after its record is gone, so a
        // layer that was found counts for that long: half for the others to be packed, half for the image to
        // be stored. Another look costs little, because nothing is packed twice.
        for _ in 1..ATTEMPTS {
            if looked.elapsed() < self.limits.grace / 2 {
                break;
            }
            looked = Instant::now();
            layers = self.pack_vanished(&blueprint.layers, name, revision, progress).await?;
        }
        let packed = blueprint.layers.iter().map(|plan| plan.key).zip(layers.iter().cloned()).collect();
        let record = self.store_image(blueprint, &layers, name, revision, key).await?;
        // Before the answer: an edge asks for it as soon as it has that.
        self.publish(name, revision, &known, &packed).await;
        Ok(record)
    }

    /// Packs what is missing; what has to be packed and is gone from the Nix store is realised again.
    async fn pack_vanished(
        self: &Arc<Self>,
        plans: &[LayerPlan],
        name: &ImageName,
        revision: &Revision,
        progress: &Progress,
    ) -> Result<Vec<LayerRecord>, BuildError> {
        match self.pack_missing(plans, progress).await {
            // Known packages whose store paths were garbage-collected before this layer was ever packed.
            Err(error) if error.is_vanished() => {
                tracing::info!(image.name = %name, error = %chain(&error), "realising again");
                let names = name.candidates();
                let _root = self.bring_back(revision, self.platform_of(name), names, progress).await?;
                self.pack_missing(plans, progress).await
            }
            layers => layers,
        }
    }

    /// Composes an image of its layers and stores what it consists of.
    async fn store_image(
        &self,
        blueprint: Blueprint,
        layers: &[LayerRecord],
        name: &ImageName,
        revision: &Revision,
        key: &CacheKey,
    ) -> Result<ImageRecord, BuildError> {
        let conflicts = blueprint.conflicts.iter().map(|conflict| conflict.path.clone()).collect();
        let image = blueprint.assemble(layers);
        let manifest =
            |blob: &SmallBlob| ManifestRecord { digest: blob.digest, size: blob.bytes.len() as u64 };
        let record = ImageRecord {
            name: name.to_string(),
            revision: revision.clone(),
            oci: manifest(&image.oci),
            docker: image.docker.as_ref().map(manifest),
            conflicts,
        };
        // The record comes last: whoever finds it finds all that it refers to.
        let blobs = [Some(image.top), Some(image.config), Some(image.oci), image.docker];
        let stored = blobs.into_iter().flatten();
        let stored = stored.map(async |blob| self.store.put_blob(&blob.digest, blob.bytes).await);
        try_join_all(stored).await?;
        self.store.put_record(RecordKind::Image, key, &record).await?;
        Ok(record)
    }
}

fn for_a_while<V: Clone + Send + Sync + 'static>(ttl: Duration) -> Cache<CacheKey, V> {
    Cache::builder().max_capacity(MAX_FAILURES).time_to_live(ttl).build()
}

#[cfg(test)]
mod tests {
    use super::{CacheKey, ImageName, PackageSetState, Platform, Revision, names_key, package_key};
    use proptest::prelude::*;

    fn revision() -> impl Strategy<Value = Revision> {
        let git = ("[ab/:\"\\\\]{0,3}", "[01]{2}").prop_map(|(url, end)| Revision::Git {
            url,
            rev: format!("{}{end}", "0".repeat(38)).parse().expect("a commit"),
        });
        prop_oneof![git, "[ab01\"]{0,3}".prop_map(|content| Revision::Path { content })]
    }

    fn platform() -> impl Strategy<Value = Platform> {
        prop_oneof![Just(Platform::Amd64), Just(Platform::Arm64)]
    }

    fn image_name() -> impl Strategy<Value = ImageName> {
        let text = "(arm64/|amd64/|shell/|user/|debug/){0,2}[ab]{1,2}([./-][ab]{1,2}){0,3}";
        text.prop_filter_map("two platforms", |text| text.parse().ok())
    }

    proptest! {
        #[test]
        fn packages_and_their_lists_never_share_a_key(
            a in (revision(), platform(), any::<bool>(), "[ab]{1,2}([.-][ab]{1,2}){0,2}"),
            b in (revision(), platform(), any::<bool>(), "[ab]{1,2}([.-][ab]{1,2}){0,2}"),
        ) {
            let package = |(revision, platform, unfree, name): &(Revision, Platform, bool, String)| {
                package_key(revision, *platform, *unfree, &name.parse().expect("a name"))
            };
            prop_assert_eq!(a == b, package(&a) == package(&b), "{:?} {:?}", a, b);
            let names = |of: &(Revision, Platform, bool, String)| names_key(&of.0, of.1, of.2);
            prop_assert_eq!((&a.0, a.1, a.2) == (&b.0, b.1, b.2), names(&a) == names(&b));
            prop_assert_ne!(package(&a), names(&b));
        }

        #[test]
        fn images_never_share_a_key(
            a in ("[ab]{0,2}", image_name()),
            b in ("[ab]{0,2}", image_name()),
        ) {
            let key = |(token, name): &(String, ImageName)| {
                let revision = Revision::Path { content: String::new() };
                let token = CacheKey::builder("t").field(token).build();
                PackageSetState { revision, token }.image_key(name)
            };
            prop_assert_eq!(a == b, key(&a) == key(&b), "{:?} {:?}", a, b);
        }
    }
}
