//! An object store that fails at any one step of a build: whatever happens, the next build makes the image, and
//! nothing that is half written can be reached.

mod builder;

use async_trait::async_trait;
use builder::builder;
use firn_backend::{
    build::{Builder, Outcome, Request},
    http::{App, ReadyManifests, router},
    package_set::PackageSet,
    store::Store,
    turns::Client,
    upkeep::{self, Policy},
};
use firn_shared::{
    Digest,
    cache_key::CacheKey,
    image_name::ImageName,
    package_source::{PackageSource, Revisions},
    reference::Tag,
};
use firn_tests::{package_set, random::Random};
use futures::{TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
    path::Path,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

/// How a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing happens but the error.
    Refused,
    /// It is done, and reported as failed.
    DoneAndRefused,
    /// Half of what should be written is there, and the rest is not.
    Torn,
    /// It takes long. Nothing else is wrong.
    Slow,
    /// That something is not in this folder is told later. Nothing else is wrong.
    Late(&'static str),
}

/// An object store in memory whose `at`th operation fails.
#[derive(Debug)]
struct Faulty {
    inner: Arc<InMemory>,
    fault: Fault,
    at: AtomicUsize,
    steps: AtomicUsize,
    random: Mutex<Random>,
    /// Closed when it is time for what is told late.
    later: Semaphore,
    /// How much is still to be told.
    untold: AtomicUsize,
    /// In each folder, how much is being written and how much ever was at once.
    writing: Mutex<BTreeMap<String, [usize; 2]>>,
}

impl Faulty {
    fn new(inner: Arc<InMemory>, fault: Fault, at: usize, random: &Random) -> Arc<Self> {
        let (at, steps, untold) = (at.into(), 0.into(), 0.into());
        let (random, later) = (Mutex::new(random.clone()), Semaphore::new(0));
        Arc::new(Self { inner, fault, at, steps, random, later, untold, writing: Mutex::default() })
    }

    /// From now on nothing fails.
    fn heal(&self) {
        self.at.store(usize::MAX, Ordering::SeqCst);
    }

    fn is_healed(&self) -> bool {
        self.at.load(Ordering::SeqCst) == usize::MAX
    }

    /// Counts an operation; the fault if it is its turn.
    async fn step(&self) -> Option<Fault> {
        let step = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        if self.fault == Fault::Slow && !self.is_healed() {
            let delay = self.random.lock().expect("unbroken").within(Duration::from_millis(4));
            tokio::time::sleep(delay).await;
            return None;
        }
        (step == self.at.load(Ordering::SeqCst)).then_some(self.fault)
    }

    /// Does something that changes or reads an object, unless it is to fail.
    async fn attempt<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.step().await {
            None | Some(Fault::Slow | Fault::Late(_)) => work.await,
            Some(Fault::DoneAndRefused) => work.await.and(Err(failure())),
            Some(Fault::Refused | Fault::Torn) => Err(failure()),
        }
    }
}

fn failure() -> Error {
    Error::Generic { store: "Faulty", source: "an injected fault".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let count = |change: fn(usize) -> usize| {
            let folder = location.parts().next().expect("a folder").as_ref().to_owned();
            let mut writing = self.writing.lock().expect("unbroken");
            let [now, most] = writing.entry(folder).or_default();
            *now = change(*now);
            *most = (*most).max(*now);
        };
        count(|now| now + 1);
        // Whoever writes at the same time begins now.
        tokio::task::yield_now().await;
        count(|now| now - 1);
        match self.step().await {
            None | Some(Fault::Slow | Fault::Late(_)) => self.inner.put_opts(location, payload, opts).await,
            Some(Fault::Refused) => Err(failure()),
            Some(Fault::DoneAndRefused) => {
                self.inner.put_opts(location, payload, opts).await.and(Err(failure()))
            }
            Some(Fault::Torn) => {
                let bytes: Vec<u8> = payload.iter().flat_map(|bytes| bytes.iter().copied()).collect();
                let half = PutPayload::from(bytes[..bytes.len() / 2].to_vec());
                self.inner.put_opts(location, half, opts).await.and(Err(failure()))
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.attempt(self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let got = self.attempt(self.inner.get_opts(location, options)).await;
        let is_late = matches!(self.fault, Fault::Late(folder) if location.as_ref().starts_with(folder));
        if is_late && !self.is_healed() && matches!(got, Err(Error::NotFound { .. })) {
            self.untold.fetch_add(1, Ordering::SeqCst);
            self.later.acquire().await.expect_err("it is closed when it is time");
        }
        got
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // Nothing is deleted in a build but what a fault has left.
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.attempt(self.inner.copy_opts(from, to, options)).await
    }
}

/// Asks for an image and waits for it.
async fn image(builder: &Arc<Builder>, name: &ImageName) -> Outcome {
    let set = builder.package_set(&Tag::default(), Client::NOBODY).await?;
    match builder.image(name, &Tag::default(), &set, Client::NOBODY).await? {
        Request::Ready(image) => Ok(image),
        Request::Building(flight, _) => flight.await,
    }
}

/// All objects and their bytes but for those whose content is the time.
async fn copy(from: &InMemory) -> Arc<InMemory> {
    let to = InMemory::new();
    let objects: Vec<ObjectMeta> = from.list(None).try_collect().await.expect("listed");
    for object in objects {
        let bytes = from.get(&object.location).await.expect("there").bytes().await.expect("read");
        to.put(&object.location, bytes.into()).await.expect("written");
    }
    Arc::new(to)
}

async fn delete_all(store: &InMemory, folders: &[&str]) {
    for folder in folders {
        let objects: Vec<ObjectMeta> =
            store.list(Some(&Path::from(*folder))).try_collect().await.expect("listed");
        for object in objects {
            store.delete(&object.location).await.expect("deleted");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_step_of_a_build_may_fail() {
    assert!(std::env::var_os("NIX_CONFIG").is_some(), "Nix is not configured; run: source setup/nix-env.sh");
    let random = Random::seeded("any_step_of_a_build_may_fail");
    let dir = tempfile::tempdir().expect("a directory");
    let set = dir.path().join("set");
    package_set::write(&set, &package_set::many(4, random.clone().number()));
    let packages = || PackageSet::new(PackageSource::Path(set.clone()), Revisions::Fixed);
    let name: ImageName = "p0/p1".parse().expect("a name");

    // Everything is realised once. What the packages are stays known, so that Nix has nothing more to do.
    let known = Arc::new(InMemory::new());
    let staging = dir.path().join("staging");
    let store = Store::on(Arc::clone(&known) as Arc<dyn ObjectStore>, &staging).expect("a store");
    let expect =
        image(&builder(store, packages(), dir.path()), &name).await.expect("the image without faults");
    for folders in
        [&["blobs", "layers", "images", "tags"][..], &["blobs", "layers", "images", "tags", "packages"]]
    {
        let (mut faults, mut survived) = (0, 0);
        let before = copy(&known).await;
        delete_all(&before, folders).await;
        // With Nix it takes a hundred times longer, so that only some steps are tried.
        let stride = if folders.contains(&"packages") { 7 } else { 1 };
        for fault in [Fault::Refused, Fault::DoneAndRefused, Fault::Torn, Fault::Slow] {
            for at in (1..).step_by(stride) {
                let objects = copy(&before).await;
                let faulty = Faulty::new(Arc::clone(&objects), fault, at, &random);
                let store =
                    Store::on(Arc::clone(&faulty) as Arc<dyn ObjectStore>, &staging).expect("a store");
                let builder = builder(store, packages(), dir.path());
                let first = image(&builder, &name).await;
                let steps = faulty.steps.load(Ordering::SeqCst);
                faulty.heal();
                if let Ok(image) = &first {
                    assert_eq!(image, &expect, "{fault:?} at {at}");
                } else {
                    faults += 1;
                }
                // Asked again, at once and without waiting for anything to be forgotten.
                let again = image(&builder, &name).await;
                let again = again.unwrap_or_else(|error| panic!("{fault:?} at {at}: {error}"));
                assert_eq!(again, expect, "{fault:?} at {at}");
                let report = upkeep::check(builder.store(), false, |_, _| {}).await.expect("checked");
                assert_eq!(report.findings, [], "{fault:?} at {at}");
                survived += 1;
                let halves = walk(&staging);
                assert_eq!(halves, [] as [String; 0], "{fault:?} at {at}: unfinished");
                if at > steps || fault == Fault::Slow {
                    break;
                }
            }
        }
        eprintln!("without {folders:?}: {survived} builds with a fault, {faults} failed, all made again");
        assert!(faults > 20 / stride, "{faults} builds failed");
    }
}

/// All objects of a folder, each with what tells one writing of it from the next.
async fn written(store: &InMemory, folder: &str) -> BTreeMap<Path, Option<String>> {
    let objects: Vec<ObjectMeta> = store.list(Some(&Path::from(folder))).try_collect().await.expect("listed");
    objects.into_iter().map(|object| (object.location, object.e_tag)).collect()
}

/// Who looked when it was not there yet, and begins after somebody else has made it, does not make it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_meanwhile_is_not_made_again() {
    assert!(std::env::var_os("NIX_CONFIG").is_some(), "Nix is not configured; run: source setup/nix-env.sh");
    let random = Random::seeded("what_is_made_meanwhile_is_not_made_again");
    let dir = tempfile::tempdir().expect("a directory");
    let set = dir.path().join("set");
    package_set::write(&set, &package_set::many(3, random.clone().number()));
    let packages = || PackageSet::new(PackageSource::Path(set.clone()), Revisions::Fixed);
    let [two, three]: [ImageName; 2] = ["p0/p1", "p0/p1/p2"].map(|name| name.parse().expect("a name"));
    let known = Arc::new(InMemory::new());
    let staging = dir.path().join("staging");
    let store = Store::on(Arc::clone(&known) as Arc<dyn ObjectStore>, &staging).expect("a store");
    image(&builder(store, packages(), dir.path()), &two).await.expect("an image");
    let layers = written(&known, "layers").await.len();

    for (folder, first, second, lookups) in [("layers", &two, &three, layers), ("images", &two, &two, 1)] {
        let objects = copy(&known).await;
        delete_all(&objects, &["blobs", "layers", "images", "tags"]).await;
        let late = Faulty::new(Arc::clone(&objects), Fault::Late(folder), 0, &random);
        let store = Store::on(Arc::clone(&late) as Arc<dyn ObjectStore>, &staging).expect("a store");
        let builder = builder(store, packages(), dir.path());
        let (name, asked) = (first.clone(), Arc::clone(&builder));
        let early = tokio::spawn(async move { image(&asked, &name).await });
        while late.untold.load(Ordering::SeqCst) < lookups {
            assert!(!early.is_finished(), "it looks in {folder} for {lookups} objects");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        late.heal();
        image(&builder, second).await.expect("an image");
        let made = written(&objects, folder).await;
        late.later.close();
        early.await.expect("no panic").expect("an image");
        let mut after = written(&objects, folder).await;
        after.retain(|location, _| made.contains_key(location));
        assert_eq!(after, made, "{folder}");
        assert!(made.len() >= lookups, "{folder}");
    }
}

/// A bucket may be far away: what can be written at once is, and whoever serves an image for the first time looks at
/// every part of it once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_bucket_in_vain() {
    assert!(std::env::var_os("NIX_CONFIG").is_some(), "Nix is not configured; run: source setup/nix-env.sh");
    let random = Random::seeded("nobody_waits_for_a_bucket_in_vain");
    let dir = tempfile::tempdir().expect("a directory");
    let (set, staging) = (dir.path().join("set"), dir.path().join("staging"));
    package_set::write(&set, &package_set::many(4, random.clone().number()));
    let packages = || PackageSet::new(PackageSource::Path(set.clone()), Revisions::Fixed);
    let name: ImageName = "p0/p1".parse().expect("a name");
    let objects = Arc::new(InMemory::new());
    let counted = Faulty::new(Arc::clone(&objects), Fault::Refused, usize::MAX, &random);
    let open = || Store::on(Arc::clone(&counted) as Arc<dyn ObjectStore>, &staging).expect("a store");
    let store = open();
    image(&builder(store.clone(), packages(), dir.path()), &name).await.expect("an image");
    for name in ["one", "another"] {
        store.note_pull(&CacheKey::builder(name).build());
    }
    store.write_pulls().await.expect("written");
    for folder in ["packages", "composition", "pulls"] {
        let [_, most] = counted.writing.lock().expect("unbroken")[folder];
        assert!(most > 1, "what goes to {folder} is written at once");
    }
    let built = counted.steps.load(Ordering::SeqCst);
    image(&builder(open(), packages(), dir.path()), &name).await.expect("the image");
    let looks = counted.steps.load(Ordering::SeqCst) - built;
    // The record; each blob; the config is read and looked at.
    let blobs = written(&objects, "blobs").await.len();
    assert!(blobs > 5 && looks == 1 + blobs + 1, "{looks} for {blobs} blobs");
}

/// Neither does a client: the whole of a blob or manifest is one request to the store.
#[tokio::test]
async fn what_is_asked_for_is_read_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let random = Random::seeded("what_is_asked_for_is_read_at_once");
    let counted = Faulty::new(Arc::new(InMemory::new()), Fault::Refused, usize::MAX, &random);
    let store = Store::on(Arc::clone(&counted) as Arc<dyn ObjectStore>, dir.path()).expect("a store");
    let packages = PackageSet::new(PackageSource::Path(dir.path().to_owned()), Revisions::Fixed);
    let manifest = br#"{"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#.to_vec();
    let (digest, large) = (Digest::of(&manifest), vec![7; 5 << 20]);
    let layer = Digest::of(&large);
    store.put_blob(&digest, manifest.clone()).await.expect("stored");
    store.put_blob(&layer, large).await.expect("stored");
    let registry = router(App {
        builder: builder(store, packages, dir.path()),
        secret: None,
        wait: Duration::from_secs(1),
        ending: watch::channel(false).1,
        manifests: ReadyManifests::new(Duration::from_secs(60)),
    });
    let get = async |path: &str, range: Option<&str>| {
        let before = counted.steps.load(Ordering::SeqCst);
        let mut request = axum::http::Request::get(path);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let request = request.body(axum::body::Body::empty()).expect("a request");
        let answer = registry.clone().oneshot(request).await.expect("an answer");
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        (status, bytes, counted.steps.load(Ordering::SeqCst) - before)
    };
    let blob = format!("/v2/hello/blobs/{digest}");
    assert_eq!(get(&blob, None).await, (200, manifest.clone().into(), 1));
    assert_eq!(get(&blob, Some("bytes=1-2")).await, (206, manifest[1..3].to_vec().into(), 2));
    assert_eq!(get(&blob, Some("lines=1-2")).await, (200, manifest.clone().into(), 2));
    assert_eq!(get(&format!("/v2/hello/manifests/{digest}"), None).await, (200, manifest.into(), 1));
    // A layer is no manifest, and is not read to find that out.
    let (status, _, steps) = get(&format!("/v2/hello/manifests/{layer}"), None).await;
    assert_eq!((status, steps), (404, 1));
}

/// A collection that fails keeps nobody from trying again at once.
#[tokio::test]
async fn a_collection_that_fails_is_over() {
    let random = Random::seeded("a_collection_that_fails_is_over");
    let dir = tempfile::tempdir().expect("a directory");
    let policy = Policy {
        budget: None,
        unused: Duration::from_secs(3600),
        age: None,
        grace: Duration::from_secs(3600),
    };
    let mut failures = 0;
    for at in 1.. {
        let faulty = Faulty::new(Arc::new(InMemory::new()), Fault::Refused, at, &random);
        let store = Store::on(Arc::clone(&faulty) as Arc<dyn ObjectStore>, dir.path()).expect("a store");
        store.note_pull(&CacheKey::builder("an image").build());
        let first = upkeep::collect(&store, &policy, false).await;
        let steps = faulty.steps.load(Ordering::SeqCst);
        failures += usize::from(first.is_err());
        faulty.heal();
        let again = upkeep::collect(&store, &policy, false).await.expect("nothing fails any more");
        assert!(again.is_some(), "{at}: nobody else collects");
        if at > steps {
            break;
        }
    }
    assert!(failures > 5, "{failures} failed");
}

/// What an edge asks for is read, whether or not there is room to write that it was.
#[tokio::test]
async fn what_is_published_is_told_when_storage_is_full() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open("memory://", dir.path()).expect("a store");
    let key = CacheKey::builder("a record").build();
    store.put_composition(&key, b"what was published".to_vec()).await.expect("there is room");
    store.limit(1).await.expect("counted");
    let packages = PackageSet::new(PackageSource::Path(dir.path().to_owned()), Revisions::Fixed);
    let published = builder(store, packages, dir.path()).published(&key).await.expect("nothing fails");
    assert_eq!(published.as_deref(), Some(&b"what was published"[..]));
}

/// The files in staging folders, but for the locks.
fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(walk(&entry.path()));
        } else if entry.file_name() != "lock" {
            found.push(entry.path().display().to_string());
        }
    }
    found
}
