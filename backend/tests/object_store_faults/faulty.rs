//! An object store that fails at one operation or is slow, and that counts operations.

use async_trait::async_trait;
use firn_backend::store::Store;
use firn_tests::random::Random;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The operation is not done and fails.
    Refused,
    /// The operation is done but reported as failed.
    DoneAndRefused,
    /// Half of the object is written.
    Torn,
    /// Each operation takes long but succeeds.
    Slow,
    /// "Not found" in this folder is reported late. Otherwise operations succeed.
    Late(&'static str),
}

/// An object store in memory whose operation number `at` fails.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) objects: Arc<InMemory>,
    fault: Fault,
    at: AtomicUsize,
    /// How many operations there were.
    pub(crate) steps: AtomicUsize,
    random: Mutex<Random>,
    /// Closed when late answers may be given.
    pub(crate) later: Semaphore,
    /// How many answers are still held back.
    pub(crate) untold: AtomicUsize,
    /// For each folder: how many writes run now, and the highest number that ran at once.
    pub(crate) writing: Mutex<BTreeMap<String, [usize; 2]>>,
}

impl Faulty {
    pub(crate) fn new(objects: Arc<InMemory>, fault: Fault, at: usize, random: &Random) -> Arc<Self> {
        let (at, steps, untold) = (at.into(), 0.into(), 0.into());
        let (random, later) = (Mutex::new(random.clone()), Semaphore::new(0));
        Arc::new(Self { objects, fault, at, steps, random, later, untold, writing: Mutex::default() })
    }

    /// A builder's store on these objects. Its staging folder is in `staging`.
    pub(crate) fn store(self: &Arc<Self>, staging: &std::path::Path) -> Store {
        Store::on(Arc::clone(self) as Arc<dyn ObjectStore>, staging).expect("a store")
    }

    /// From now on no operation fails.
    pub(crate) fn heal(&self) {
        self.at.store(usize::MAX, Ordering::SeqCst);
    }

    fn is_healed(&self) -> bool {
        self.at.load(Ordering::SeqCst) == usize::MAX
    }

    /// Counts an operation. Returns the fault if this is the operation that fails.
    async fn step(&self) -> Option<Fault> {
        let step = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        if self.fault == Fault::Slow && !self.is_healed() {
            let delay = self.random.lock().expect("unbroken").within(Duration::from_millis(4));
            tokio::time::sleep(delay).await;
            return None;
        }
        (step == self.at.load(Ordering::SeqCst)).then_some(self.fault)
    }

    /// Reads or changes an object, unless this operation is to fail.
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
        // Let concurrent writers start.
        tokio::task::yield_now().await;
        count(|now| now - 1);
        match self.step().await {
            None | Some(Fault::Slow | Fault::Late(_)) => self.objects.put_opts(location, payload, opts).await,
            Some(Fault::Refused) => Err(failure()),
            Some(Fault::DoneAndRefused) => {
                self.objects.put_opts(location, payload, opts).await.and(Err(failure()))
            }
            Some(Fault::Torn) => {
                let bytes: Vec<u8> = payload.iter().flat_map(|bytes| bytes.iter().copied()).collect();
                let half = PutPayload::from(bytes[..bytes.len() / 2].to_vec());
                self.objects.put_opts(location, half, opts).await.and(Err(failure()))
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.attempt(self.objects.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let got = self.attempt(self.objects.get_opts(location, options)).await;
        let is_late = matches!(self.fault, Fault::Late(folder) if location.as_ref().starts_with(folder));
        if is_late && !self.is_healed() && matches!(got, Err(Error::NotFound { .. })) {
            self.untold.fetch_add(1, Ordering::SeqCst);
            self.later.acquire().await.expect_err("it is only closed");
        }
        got
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // A build deletes only what a fault has left.
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.attempt(self.objects.copy_opts(from, to, options)).await
    }
}
