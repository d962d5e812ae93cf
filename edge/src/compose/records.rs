//! The records from which images are composed. They are read from the isolate's memory, from KV, and from the bucket,
//! which may be the one that the backend writes to. After the backend has answered for an image, it is asked for the
//! image's records.
//!
//! An invalid record counts as missing. When a record is missing, try the next source: KV caches misses.

use super::blobs::Shelf;
use crate::{backend, blob_location::BUCKET, clock, config::Config, kv::Kv, kv_store, manifest::Fetched};
use firn_shared::{
    cache_key::CacheKey,
    composition::{
        ComposeError, KnownPackage, PATH, PackageSetRecord, ReadRecordError, compose, disagree, package_key,
        package_set_key,
    },
    link::{object_key::composition_key, protocol::ImageSetId},
    naming::{image_name::ImageName, package_name::PackageName},
    oci::{endpoint::Method, platform::Platform},
};
use futures_util::future::maybe_done;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::thread::LocalKey;
use worker::{Bucket, Env, console_warn};

/// How many bytes of records an isolate keeps. Parsed, they take several times as much of its 128 MB.
const MEMORY_BYTES: usize = 4 << 20;
/// The longest record that is read, in bytes: six times that of a closure of 1,000 paths. The backend answers for images of
/// packages with longer ones.
const MAX_BYTES: usize = 2 << 20;
/// How many records are read at once. They must fit into memory together, and a request has six connections.
const AT_ONCE: usize = 6;

thread_local! {
    static SETS: RefCell<Table<PackageSetRecord>> = RefCell::default();
    static PACKAGES: RefCell<Table<KnownPackage>> = RefCell::default();
}

/// Parsed records, each with its size in bytes, and the sum of the sizes.
struct Table<T> {
    entries: HashMap<CacheKey, (Rc<T>, usize)>,
    bytes: usize,
}

impl<T> Table<T> {
    fn remove(&mut self, key: &CacheKey) {
        if let Some((_, bytes)) = self.entries.remove(key) {
            self.bytes -= bytes;
        }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), bytes: 0 }
    }
}

/// A kind of record.
trait Record: PartialEq + Sized + 'static {
    const TABLE: &'static LocalKey<RefCell<Table<Self>>>;

    fn decode(key: &CacheKey, bytes: &[u8]) -> Result<Self, ReadRecordError>;

    /// Whether a later record of this key cannot contain more.
    fn is_final(&self) -> bool;
}

impl Record for PackageSetRecord {
    const TABLE: &'static LocalKey<RefCell<Table<Self>>> = &SETS;

    fn decode(key: &CacheKey, bytes: &[u8]) -> Result<Self, ReadRecordError> {
        Self::decode(key, bytes)
    }

    fn is_final(&self) -> bool {
        true
    }
}

impl Record for KnownPackage {
    const TABLE: &'static LocalKey<RefCell<Table<Self>>> = &PACKAGES;

    fn decode(key: &CacheKey, bytes: &[u8]) -> Result<Self, ReadRecordError> {
        Self::decode(key, bytes)
    }

    fn is_final(&self) -> bool {
        self.is_complete()
    }
}

/// The sources of records.
pub(super) struct Records {
    kv: Option<Kv>,
    bucket: Option<Bucket>,
    /// How long KV keeps records, in seconds.
    seconds: u64,
    /// Whether the isolate keeps records.
    remembers: bool,
    /// Records that were found in the bucket but not in KV, each with the remaining seconds for which it is valid.
    found: RefCell<Vec<(CacheKey, Vec<u8>, u64)>>,
}

impl Records {
    /// Opens the bindings that exist.
    pub(super) fn open(env: &Env, config: &Config) -> Self {
        Self {
            kv: Kv::bound(env, kv_store::BINDING),
            bucket: env.bucket(BUCKET).ok(),
            seconds: config.manifest_ttl_seconds,
            remembers: config.memory_bytes > 0,
            found: RefCell::default(),
        }
    }

    /// What all images of a package set have in common.
    pub(super) async fn package_set(&self, token: &ImageSetId) -> Option<Rc<PackageSetRecord>> {
        self.find(package_set_key(token)).await
    }

    /// The records of the packages that may be part of an image. Stops where a package is missing that the name
    /// spells out: then the image cannot be composed, and a name can have a hundred packages.
    pub(super) async fn packages(
        &self,
        token: &ImageSetId,
        platform: Platform,
        image: &ImageName,
    ) -> HashMap<PackageName, Rc<KnownPackage>> {
        let names: Vec<PackageName> = image.candidates().into_iter().collect();
        let mut packages = HashMap::new();
        for names in names.chunks(AT_ONCE) {
            let known = names.iter().map(|name| self.find(package_key(token, platform, name)));
            for (name, known) in names.iter().zip(all(known).await) {
                match known {
                    Some(known) => drop(packages.insert(name.clone(), known)),
                    None if image.packages().any(|spelled| spelled == name) => return packages,
                    None => {}
                }
            }
        }
        packages
    }

    /// Removes the records of these packages from memory, so that they are read from KV again: newer ones may name
    /// more layers.
    pub(super) fn forget<'a>(
        token: &ImageSetId,
        platform: Platform,
        packages: impl Iterator<Item = &'a PackageName>,
    ) {
        PACKAGES.with_borrow_mut(|table| {
            packages.for_each(|name| table.remove(&package_key(token, platform, name)));
        });
    }

    async fn find<T: Record>(&self, key: CacheKey) -> Option<Rc<T>> {
        if let Some(record) =
            T::TABLE.with_borrow(|table| table.entries.get(&key).map(|(record, _)| record.clone()))
        {
            return Some(record);
        }
        if let Some(kv) = &self.kv {
            match kv.plain_bytes(&key.to_string()).await {
                Ok(Some(bytes)) => {
                    if let Some(record) = self.read(key, &bytes) {
                        return Some(record);
                    }
                }
                Ok(None) => {}
                Err(error) => warn("KV could not read a record", &error),
            }
        }
        let object = self.bucket.as_ref()?.get(composition_key(&key)).execute().await;
        let object = object.map_err(|error| warn("the bucket could not read a record", &error)).ok()??;
        // An older record may name layers that no longer exist. The backend writes the records again that are needed.
        let age = clock::now().saturating_sub(object.uploaded().as_millis() / 1000);
        let left = self.seconds.checked_sub(age)?;
        if object.size() > MAX_BYTES as u64 {
            warn("a record is ignored", &"it is too long");
            return None;
        }
        let bytes = object.body()?.bytes().await.ok()?;
        let record = self.read(key, &bytes)?;
        self.found.borrow_mut().push((key, bytes, left));
        Some(record)
    }

    /// Parses a record and keeps it in memory.
    fn read<T: Record>(&self, key: CacheKey, bytes: &[u8]) -> Option<Rc<T>> {
        if bytes.len() > MAX_BYTES {
            warn("a record is ignored", &"it is too long");
            return None;
        }
        let record = T::decode(&key, bytes).map_err(|error| warn("a record is ignored", &error)).ok()?;
        let record = Rc::new(record);
        // A record that may be replaced by a better one is not kept.
        if self.remembers && record.is_final() {
            T::TABLE.with_borrow_mut(|table| {
                table.remove(&key);
                if table.bytes + bytes.len() > MEMORY_BYTES {
                    *table = Table::default();
                }
                table.bytes += bytes.len();
                table.entries.insert(key, (record.clone(), bytes.len()));
            });
        }
        Some(record)
    }

    /// Copies to KV what was found in the bucket, which takes longer to read.
    pub(super) async fn keep_found(&self) {
        for (key, bytes, left) in self.found.take() {
            self.keep(&key, &bytes, left).await;
        }
    }

    async fn keep(&self, key: &CacheKey, bytes: &[u8], seconds: u64) {
        let Some(kv) = &self.kv else { return };
        // KV accepts no TTL below a minute.
        if let Err(error) = kv.put_plain_bytes(&key.to_string(), bytes, seconds.max(60)).await {
            warn("KV could not write a record", &error);
        }
    }

    /// The known record, or the backend's if that may contain more. Also returns whether the backend was asked.
    async fn find_or_ask<T: Record>(&self, config: &Config, key: CacheKey) -> (Option<Rc<T>>, bool) {
        let known = self.find::<T>(key).await;
        if known.as_ref().is_some_and(|record| record.is_final()) {
            return (known, false);
        }
        (self.ask(config, key, known).await, true)
    }

    /// The backend's record. If the backend has none, the known one.
    async fn ask<T: Record>(&self, config: &Config, key: CacheKey, known: Option<Rc<T>>) -> Option<Rc<T>> {
        let path = format!("{PATH}{key}");
        let question = backend::Question::about(Method::Get, &path);
        // "Not found" is an answer too.
        let Ok(mut response) = backend::response(config, question).await else { return known };
        let body = backend::body(&mut response, MAX_BYTES).await;
        let bytes = body.map_err(|error| warn("the backend's record did not arrive", &error)).ok()?;
        let Some(record) = self.read(key, &bytes) else { return known };
        if known.as_ref() != Some(&record) {
            self.keep(&key, &bytes, self.seconds).await;
        }
        Some(record)
    }
}

/// Awaits a few futures, and returns their results in order. `join_all` does the same, but adds a scheduler for
/// thousands of futures, 3 KB of the Worker.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| Box::pin(maybe_done(future))).collect();
    poll_fn(|context| {
        let pending =
            futures.iter_mut().filter_map(|future| future.as_mut().poll(context).is_pending().then_some(()));
        if pending.count() == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    futures.iter_mut().filter_map(|future| future.as_mut().take_output()).collect()
}

/// Fetches the records of an image's packages after the backend has answered for the image, so that other images of
/// these packages can be composed here.
pub(crate) async fn learn(env: &Env, config: &Config, image: &ImageName, fetched: &Fetched) {
    let (Some(token), Some(_)) = (&fetched.package_set, Shelf::of(env, config)) else { return };
    let records = Records::open(env, config);
    let (Some(set), _) = records.find_or_ask::<PackageSetRecord>(config, package_set_key(token)).await else {
        return;
    };
    let platform = image.platform().unwrap_or(set.recipe.platform);
    // One after the other: no client waits for this, and the backend has others to answer.
    let (mut packages, mut asked) = (Vec::new(), HashSet::new());
    for name in image.candidates() {
        let key = package_key(token, platform, &name);
        let (known, was_asked) = records.find_or_ask::<KnownPackage>(config, key).await;
        packages.extend(known.map(|known| (name, key, known)));
        if was_asked {
            asked.insert(key);
        }
    }
    // This must precede newer records.
    records.keep_found().await;
    // The backend has just made its records agree, and packed what the image needs.
    if disagree(packages.iter().map(|(_, _, known)| &**known)) || lacks_layers(image, &set, &packages) {
        for (_, key, known) in packages {
            if !asked.contains(&key) {
                records.ask(config, key, Some(known)).await;
            }
        }
    }
}

/// Whether the image takes a step at which its packages had not been packed when they were recorded.
fn lacks_layers(
    image: &ImageName,
    set: &PackageSetRecord,
    packages: &[(PackageName, CacheKey, Rc<KnownPackage>)],
) -> bool {
    let known =
        |name: &PackageName| packages.iter().find(|(known, ..)| known == name).map(|(.., known)| &**known);
    matches!(compose(image, set, known), Err(ComposeError::NeverPacked(..)))
}

fn warn(what: &str, error: &dyn std::fmt::Display) {
    let line = serde_json::json!({ "message": what, "error": error.to_string() });
    console_warn!("{line}");
}
