//! Garbage collection: images go, and then what no image is made of any more.
//!
//! An image is chosen by its last pull, its age and the disk budget (`choice`). Its record goes, then its tags
//! if no other image has its name, and whatever no remaining image refers to: package records, layer records,
//! blobs (mark and sweep). Nix's store is Nix's: Firn holds roots there only while it builds.
//!
//! Nothing that anybody uses may break, in this process or in another one that shares the store. All ages are
//! by the store's own clock ([`Store::now_ms`]); `grace` is [`RetentionPolicy::grace`], the same for all processes.
//!
//! - *A client in the middle of a pull.* It has been given a manifest, so the image was pulled within the grace
//!   period, or its record goes at this very moment. Either way no blob of it goes before another grace period
//!   has passed: a blob is deleted only when it has been without any reference for that long (`condemned`
//!   remembers since when), and when it was not written during that time.
//! - *A build that finds a layer's record* and writes the image's record later. A blob is not condemned while a
//!   layer record refers to it, so that what was found is there for the grace period. A build that takes
//!   longer over its layers than half of that looks again (`images/image.rs`), the other half is for storing what
//!   is small; once the record is there, it is among those that the next collection marks before it deletes.
//!   Collections read the records after they have listed the blobs' ages and before they delete, and delete only
//!   what was condemned by an earlier one: a record that is written while one runs refers to what it found within
//!   the grace period, which this run does not delete.
//! - *A build that packs a layer whose blob is condemned*, or whose config another image had. It stores the same
//!   bytes again under the same name, perhaps while they are being deleted: see `store/deletion.rs`.
//! - *Package records* are read once at the start of a build; one that goes later costs the next image an
//!   evaluation.
//! - *Two collections at once* are kept apart by a lease (`store/lease.rs`). What the store does late of one that was
//!   stopped, beside the next one, is a deletion of what had been due for the grace period, or a list of condemned blobs
//!   in place of the next one's: blobs are condemned later then.
//! - *An edge that composes images* (`firn_shared::composition`) has no records here: what it needs is held by age.
//!   A record that it composes from holds its layers for as long as an image that nobody pulls stays, counted from
//!   the last build or request that needed it; with a disk budget for the grace period alone, since layers are what
//!   fills disks. So does what says that an edge has written a blob. Edges remember both for half as long.
//! - *A crash* leaves records fewer and blobs more than there need be; the next collection goes on.

use super::choice::{Candidate, RemovalReason, choose};
use crate::{
    config::RetentionPolicy,
    store::{
        ImageRecord, ObjectKind, RecordKind, Store, StoreError, StoredObject, Tree, footprint, names_key,
        package_key, tags_folder,
    },
};
use firn_shared::{
    Digest, composition::KnownPackage, image::layer::LayerRecord, naming::image_name::ImageName,
    oci::platform::Platform,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How many records are read at once.
const AT_ONCE: usize = 16;
/// After how long at most a collection that has said nothing is believed to be dead.
const LONGEST_LEASE: Duration = Duration::from_secs(120);
/// Shorter ones could not be renewed in time.
const SHORTEST_LEASE: Duration = Duration::from_secs(4);
/// After how long a mark of a deletion is believed to be a dead process's.
const DELETION_MS: i64 = 600_000;

/// What a collection did, or would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Collection {
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// How many images stay.
    pub images_kept: usize,
    /// The images that go.
    pub images: Vec<Removal>,
    /// How many other records and tags go.
    pub records: usize,
    /// How many blobs go now.
    pub blobs: usize,
    /// The space that is free afterwards and was not before, in bytes.
    pub freed_bytes: u64,
    /// Blobs that nothing refers to any more, and that go when the grace period has passed.
    pub condemned: usize,
    /// Their space, in bytes.
    pub condemned_bytes: u64,
    /// The space that the store takes afterwards, in bytes.
    pub used_bytes: u64,
}

/// An image that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// Its name.
    pub name: String,
    /// Its package set's revision.
    pub revision: String,
    /// Seconds since it was last pulled or built.
    pub unused_seconds: i64,
    /// Why.
    pub reason: RemovalReason,
}

/// What was found.
#[derive(Default)]
struct Inventory {
    blobs: Vec<(Digest, StoredObject)>,
    images: Vec<StoredObject>,
    layers: Vec<StoredObject>,
    /// Records of packages and of names.
    others: Vec<StoredObject>,
    /// What is known of store paths.
    paths: Vec<StoredObject>,
    tags: Vec<StoredObject>,
    /// Records that edges compose images from.
    compositions: Vec<StoredObject>,
    /// Blobs that edges have written.
    composed: Vec<(Digest, StoredObject)>,
    pulls: HashMap<String, StoredObject>,
    quarantined: Vec<StoredObject>,
    bookkeeping: Vec<StoredObject>,
    used: u64,
}

impl Inventory {
    async fn take(store: &Store) -> Result<Self, StoreError> {
        let mut inventory = Self::default();
        let mut objects = store.objects();
        while let Some(object) = objects.try_next().await? {
            inventory.used += footprint(object.size);
            match object.kind {
                ObjectKind::Blob(digest) => inventory.blobs.push((digest, object)),
                ObjectKind::Record(RecordKind::Image) => inventory.images.push(object),
                ObjectKind::Record(RecordKind::Layer) => inventory.layers.push(object),
                ObjectKind::Record(RecordKind::Package | RecordKind::Names) => inventory.others.push(object),
                ObjectKind::Record(RecordKind::PathInfo | RecordKind::Tree) => inventory.paths.push(object),
                ObjectKind::Tag => inventory.tags.push(object),
                ObjectKind::Composition => inventory.compositions.push(object),
                ObjectKind::Composed(digest) => inventory.composed.push((digest, object)),
                ObjectKind::Pull => {
                    inventory.pulls.insert(object.name().to_owned(), object);
                }
                ObjectKind::Quarantined => inventory.quarantined.push(object),
                ObjectKind::Bookkeeping | ObjectKind::Probe => inventory.bookkeeping.push(object),
                ObjectKind::Unfinished | ObjectKind::Unknown => {}
            }
        }
        Ok(inventory)
    }
}

/// An image's record, read.
struct Image {
    object: StoredObject,
    /// None where the record does not check.
    record: Option<ImageRecord>,
    /// What pulls of it are noted under: its key, and the digests of its documents, also of those in an index.
    noted_under: Vec<String>,
    candidate: Candidate,
}

/// Collects garbage, or finds out what would go. Nothing where another process is at it.
///
/// # Errors
/// When the store fails. What has been done by then is in order.
pub async fn collect(
    store: &Store,
    policy: &RetentionPolicy,
    dry_run: bool,
) -> Result<Option<Collection>, StoreError> {
    if dry_run {
        return Run::new(store, policy, true).await?.run().await.map(Some);
    }
    // What is done late by a collection that was stopped is done within the grace period.
    let length = (policy.grace / 4).clamp(SHORTEST_LEASE, LONGEST_LEASE);
    let Some(lease) = store.lease(length).await? else { return Ok(None) };
    tracing::debug!(term = lease.term(), "collecting garbage");
    let collection = async {
        store.write_pulls().await?;
        Run::new(store, policy, false).await?.run().await
    };
    let mut collection = lease.hold(collection).await??;
    collection.used_bytes = store.recount().await?;
    Ok(Some(collection))
}

struct Run<'a> {
    store: &'a Store,
    policy: &'a RetentionPolicy,
    dry_run: bool,
    now_ms: i64,
    /// What was last written before this is older than the grace period.
    before_ms: i64,
    done: Collection,
}

impl<'a> Run<'a> {
    async fn new(store: &'a Store, policy: &'a RetentionPolicy, dry_run: bool) -> Result<Self, StoreError> {
        let now_ms = store.now_ms().await?;
        let grace_ms = i64::try_from(policy.grace.as_millis()).unwrap_or(i64::MAX);
        let before_ms = now_ms.saturating_sub(grace_ms);
        let done = Collection { dry_run, ..Collection::default() };
        Ok(Self { store, policy, dry_run, now_ms, before_ms, done })
    }

    async fn run(mut self) -> Result<Collection, StoreError> {
        // Blobs before records: what a record refers to that is written meanwhile is younger than this list.
        let inventory = Inventory::take(self.store).await?;
        self.done.used_bytes = inventory.used;
        let condemned = self.store.condemned().await?;
        let images = self.read_images(&inventory).await?;
        let layers = self.read_layers(&inventory).await?;
        let referred: HashSet<Digest> =
            images.iter().flat_map(Image::blobs).chain(layers.iter().map(|(_, digest)| *digest)).collect();

        let kept = self.remove_images(&inventory, images, &layers).await?;
        let marked: HashSet<Digest> = kept.iter().flat_map(Image::blobs).collect();
        self.remove_records(&inventory, &kept).await?;
        let mut held = marked;
        self.hold_for_edges(&inventory, &mut held).await?;
        for (layer, digest) in layers {
            if held.contains(&digest) || !self.remove_old(&layer).await? {
                held.insert(digest);
            }
        }

        let mut condemned_now = HashMap::new();
        for (digest, blob) in &inventory.blobs {
            if held.contains(digest) {
                continue;
            }
            let since = condemned.get(digest).filter(|_| !referred.contains(digest));
            let is_due =
                since.is_some_and(|since| *since <= self.before_ms) && blob.modified_ms <= self.before_ms;
            if is_due && (self.dry_run || self.store.delete_blob(digest, self.before_ms).await?) {
                self.done.blobs += 1;
                self.done.freed_bytes += footprint(blob.size);
            } else {
                condemned_now.insert(*digest, since.copied().unwrap_or(self.now_ms));
                self.done.condemned += 1;
                self.done.condemned_bytes += footprint(blob.size);
            }
        }
        if !self.dry_run {
            self.store.condemn(&condemned_now).await?;
            self.forget_pulls(&inventory, &kept).await?;
            self.tidy(&inventory).await?;
        }
        Ok(self.done)
    }

    async fn read_images(&self, inventory: &Inventory) -> Result<Vec<Image>, StoreError> {
        let read = |object: StoredObject| async move {
            let record = self.store.read_record::<ImageRecord>(RecordKind::Image, &object.location).await?;
            let tree = match &record {
                Some(record) => Some(self.store.tree(record.documents()).await?),
                None => None,
            };
            let manifests = tree.iter().flat_map(Tree::manifests).map(|digest| digest.hex());
            let noted_under: Vec<_> = [object.name().to_owned()].into_iter().chain(manifests).collect();
            let whole = tree.filter(|tree| tree.broken.is_empty());
            let blobs = whole.map(|tree| tree.digests().collect());
            let (mut pulled_ms, mut uses) = (object.modified_ms, 1);
            // The record, and a tag.
            let mut records = footprint(object.size) + footprint(0);
            for noted in &noted_under {
                let Some(pull) = inventory.pulls.get(noted) else { continue };
                pulled_ms = pulled_ms.max(pull.modified_ms);
                records += footprint(pull.size);
                if self.policy.budget.is_some() {
                    uses = self.store.uses(noted).await?.max(uses);
                }
            }
            let candidate = Candidate { pulled_ms, built_ms: object.modified_ms, uses, blobs, records };
            Ok(Image { object, record, noted_under, candidate })
        };
        stream::iter(inventory.images.clone()).map(read).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Holds what edges need, and removes what says so when it is too old.
    async fn hold_for_edges(
        &mut self,
        inventory: &Inventory,
        held: &mut HashSet<Digest>,
    ) -> Result<(), StoreError> {
        let unused_ms = i64::try_from(self.policy.unused.as_millis()).unwrap_or(i64::MAX);
        let unused_before_ms = self.now_ms.saturating_sub(unused_ms).min(self.before_ms);
        for (digest, object) in &inventory.composed {
            if object.modified_ms > unused_before_ms {
                held.insert(*digest);
            } else {
                self.remove(object).await?;
                self.done.records += 1;
            }
        }
        let before_ms = if self.policy.budget.is_some() { self.before_ms } else { unused_before_ms };
        // What is known of store paths can be found out again.
        for object in inventory.paths.iter().filter(|object| object.modified_ms <= before_ms) {
            self.remove(object).await?;
            self.done.records += 1;
        }
        for object in &inventory.compositions {
            let layers = self.layers_for_edges(object).await?;
            let is_needed = layers.iter().flatten().all(|digest| held.contains(digest));
            if object.modified_ms > before_ms {
                held.extend(layers.into_iter().flatten());
            } else if object.modified_ms <= unused_before_ms || !is_needed {
                self.remove(object).await?;
                self.done.records += 1;
            }
        }
        Ok(())
    }

    /// The layers that a record for edges names; none when it cannot be read or names none.
    async fn layers_for_edges(&self, object: &StoredObject) -> Result<Option<Vec<Digest>>, StoreError> {
        let Ok(key) = object.name().parse() else { return Ok(None) };
        let Some(bytes) = self.store.read(&object.location).await? else { return Ok(None) };
        let known = KnownPackage::decode(&key, &bytes).ok();
        Ok(known.map(|known| known.layers().map(|(_, layer)| layer.digest).collect()))
    }

    async fn read_layers(&self, inventory: &Inventory) -> Result<Vec<(StoredObject, Digest)>, StoreError> {
        let read = |object: StoredObject| async move {
            let record = self.store.read_record::<LayerRecord>(RecordKind::Layer, &object.location).await?;
            Ok::<_, StoreError>(record.map(|record| (object, record.digest)))
        };
        let layers: Vec<_> =
            stream::iter(inventory.layers.clone()).map(read).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(layers.into_iter().flatten().collect())
    }

    /// Removes the images that go and returns the others.
    async fn remove_images(
        &mut self,
        inventory: &Inventory,
        images: Vec<Image>,
        layers: &[(StoredObject, Digest)],
    ) -> Result<Vec<Image>, StoreError> {
        let blobs = inventory.blobs.iter().map(|(digest, blob)| (*digest, footprint(blob.size)));
        let mut sizes: HashMap<Digest, u64> = blobs.collect();
        for (record, layer) in layers {
            *sizes.entry(*layer).or_default() += footprint(record.size);
        }
        let composed = inventory.composed.iter().map(|(_, object)| object);
        let others = inventory.others.iter().chain(&inventory.compositions).chain(composed);
        let others: u64 = others.map(|object| footprint(object.size)).sum();
        let candidates: Vec<_> = images.iter().map(|image| image.candidate.clone()).collect();
        let reasons = choose(&candidates, &sizes, others, self.policy, self.now_ms);
        let mut kept = Vec::new();
        for (image, reason) in images.into_iter().zip(reasons) {
            match reason {
                Some(reason) if !image.noted_under.iter().any(|noted| self.store.is_being_pulled(noted)) => {
                    self.done.images.push(image.removal(reason, self.now_ms));
                    self.remove(&image.object).await?;
                    for noted in image.noted_under.iter().filter(|noted| inventory.pulls.contains_key(*noted))
                    {
                        if !self.dry_run {
                            self.store.forget_pulls(noted).await?;
                        }
                    }
                }
                _ => kept.push(image),
            }
        }
        self.done.images_kept = kept.len();
        Ok(kept)
    }

    /// Removes tags and records of packages that no image needs.
    async fn remove_records(&mut self, inventory: &Inventory, kept: &[Image]) -> Result<(), StoreError> {
        let mut tags = HashSet::new();
        let mut records = HashSet::new();
        for record in kept.iter().filter_map(|image| image.record.as_ref()) {
            let Ok(name) = record.name.parse::<ImageName>() else { continue };
            tags.insert(tags_folder(&name));
            // Names are listed for any platform. An image of several has packages of each; records of the format before
            // say neither platform nor licences, and what is kept in vain for them is small.
            for platform in [Platform::Amd64, Platform::Arm64] {
                let unfree = record.recipe.as_ref().map(|recipe| recipe.allow_unfree);
                for unfree in [false, true].into_iter().filter(|it| unfree.is_none_or(|unfree| unfree == *it))
                {
                    let names = names_key(&record.revision, platform, unfree);
                    records.insert(RecordKind::Names.location(&names));
                    if record.platform.is_some_and(|of_image| of_image != platform) {
                        continue;
                    }
                    records.extend(name.candidates().iter().map(|package| {
                        let key = package_key(&record.revision, platform, unfree, package);
                        RecordKind::Package.location(&key)
                    }));
                }
            }
        }
        for record in inventory.others.iter().filter(|record| !records.contains(&record.location)) {
            if self.remove_old(record).await? {
                self.done.records += 1;
            }
        }
        for tag in &inventory.tags {
            let folder = tag.location.as_ref().rsplit_once('/').map_or("", |(folder, _)| folder);
            if !tags.contains(folder) && self.remove_old(tag).await? {
                self.done.records += 1;
            }
        }
        Ok(())
    }

    /// Removes an object unless it was written within the grace period; returns whether it goes.
    async fn remove_old(&mut self, object: &StoredObject) -> Result<bool, StoreError> {
        let is_old = object.modified_ms <= self.before_ms;
        if is_old {
            self.remove(object).await?;
        }
        Ok(is_old)
    }

    async fn remove(&mut self, object: &StoredObject) -> Result<(), StoreError> {
        if !self.dry_run {
            self.store.remove(object).await?;
        }
        self.done.freed_bytes += footprint(object.size);
        Ok(())
    }

    /// Removes what says when images were pulled that are no longer there: an edge may have reported them since.
    async fn forget_pulls(&mut self, inventory: &Inventory, kept: &[Image]) -> Result<(), StoreError> {
        let known: HashSet<&String> = kept.iter().flat_map(|image| &image.noted_under).collect();
        for (_, pull) in inventory.pulls.iter().filter(|(noted, _)| !known.contains(noted)) {
            self.remove_old(pull).await?;
        }
        Ok(())
    }

    /// Removes what nobody needs for anything any more.
    async fn tidy(&mut self, inventory: &Inventory) -> Result<(), StoreError> {
        let kept_ms = i64::try_from(self.policy.unused.as_millis()).unwrap_or(i64::MAX);
        let is_full = self.policy.budget.is_some_and(|budget| inventory.used > budget / 2);
        for object in &inventory.quarantined {
            let age = self.now_ms.saturating_sub(object.modified_ms);
            if age > kept_ms || is_full {
                self.remove_old(object).await?;
            }
        }
        for object in &inventory.bookkeeping {
            let age = self.now_ms.saturating_sub(object.modified_ms);
            let place = object.location.as_ref();
            let is_over = match place.rsplit_once('/').map_or("", |(folder, _)| folder) {
                "upkeep/claimed" => object.modified_ms <= self.before_ms && age > DELETION_MS,
                "upkeep/deleting" | "probes" => age > DELETION_MS,
                _ => false,
            };
            if is_over {
                self.remove(object).await?;
            }
        }
        Ok(())
    }
}

impl Image {
    fn blobs(&self) -> impl Iterator<Item = Digest> {
        self.candidate.blobs.iter().flatten().copied()
    }

    fn removal(&self, reason: RemovalReason, now_ms: i64) -> Removal {
        let record = self.record.as_ref();
        Removal {
            name: record.map_or_else(|| self.object.name().to_owned(), |record| record.name.clone()),
            revision: record.map_or_else(String::new, |record| record.revision.id().to_owned()),
            unused_seconds: now_ms.saturating_sub(self.candidate.pulled_ms).max(0) / 1000,
            reason,
        }
    }
}
