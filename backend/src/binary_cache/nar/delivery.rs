//! Delivers the NAR of a store path: from its first source that can, decompressed and checked.

use super::decoder::Decoder;
use super::download::{Download, Wanted};
use super::reader::Chunks;
use crate::binary_cache::cache::Cache;
use crate::binary_cache::transport::TransportError;
use crate::binary_cache::{BinaryCaches, CachedPath, NarError, Source};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use firn_shared::oci::digest::NarHash;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;
use tokio::runtime::Handle;

/// How many bytes of NAR are passed on at a time.
const CHUNK: u64 = 128 << 10;
/// How many chunks wait for the reader.
const CHUNKS: usize = 8;
/// How often the sources are tried, if all of them fail in a way that may pass.
const ROUNDS: u32 = 3;

/// The verified bytes of a NAR, decompressed by a thread of their own.
pub(super) struct Delivery {
    chunks: Receiver<Result<Option<Bytes>, NarError>>,
    is_at_end: bool,
}

/// A download that began before anybody wanted it.
pub(super) struct Ahead {
    source: Source,
    download: Download,
}

impl Delivery {
    /// Begins. `ahead` is the download of a source, if it has begun already.
    pub(super) fn begin(order: Order, ahead: Option<Ahead>) -> io::Result<Self> {
        let (sender, chunks) = bounded(CHUNKS);
        let run = move || {
            let mut to = Delivered { to: sender, size: 0, hasher: Sha256::new(), from: Vec::new() };
            let end = match order.deliver(&mut to, ahead) {
                Ok(()) => Ok(None),
                Err(Stop::Failed(error)) => Err(error),
                Err(Stop::Unwanted) => return,
            };
            let _ = to.to.send(end);
        };
        thread::Builder::new().name("nar".into()).spawn(run)?;
        Ok(Self { chunks, is_at_end: false })
    }
}

impl Chunks for Delivery {
    type Error = NarError;

    /// The next bytes. At the end, they are what the narinfo says.
    fn next(&mut self) -> Result<Option<Bytes>, NarError> {
        if self.is_at_end {
            return Ok(None);
        }
        let chunk = self.chunks.recv().expect("the thread says how it ends");
        self.is_at_end = !matches!(chunk, Ok(Some(_)));
        chunk
    }
}

/// What is to be delivered.
pub(super) struct Order {
    pub(super) caches: BinaryCaches,
    pub(super) path: CachedPath,
    pub(super) runtime: Handle,
    pub(super) fetched: Arc<AtomicU64>,
}

/// What was delivered.
struct Delivered {
    to: Sender<Result<Option<Bytes>, NarError>>,
    size: u64,
    hasher: Sha256,
    /// The sources that it came from.
    from: Vec<Source>,
}

/// Why a delivery ends early.
enum Stop {
    Failed(NarError),
    /// Nobody reads any more.
    Unwanted,
}

/// Why a source cannot deliver.
enum Failure {
    Transport(TransportError),
    /// It has something else.
    Wrong(String),
    /// It does not fit what earlier sources delivered.
    Contradiction,
    Unwanted,
}

impl Order {
    /// The download of a source; `None` if its cache is not configured.
    pub(super) fn wanted(&self, source: &Source) -> Option<(&Cache, Wanted)> {
        let cache = self.caches.cache(&source.cache)?;
        // What does not compress becomes a little larger.
        let most =
            self.path.info.nar_size.saturating_add(self.path.info.nar_size / 8).saturating_add(1 << 20);
        let wanted = Wanted {
            transport: cache.transport.clone(),
            location: source.location.clone(),
            file_size: source.file_size,
            most: source.file_size.map_or(most, |size| size.max(most)),
            limits: self.caches.0.limits.clone(),
            fetched: Arc::clone(&self.fetched),
        };
        Some((cache, wanted))
    }

    /// The sources that have not delivered something else lately, those of caches that did not deliver last.
    fn sources(&self) -> Vec<Source> {
        let mut sources = self.path.sources.clone();
        sources.retain(|source| !self.caches.is_distrusted(source));
        sources.sort_by_key(|source| self.caches.cache(&source.cache).is_some_and(Cache::is_unreliable));
        sources
    }

    /// Begins to download the first source as soon as few enough other downloads wait.
    pub(super) fn ahead(&self) -> Option<Ahead> {
        let source = self.sources().into_iter().next()?;
        let (_, wanted) = self.wanted(&source)?;
        let download = Download::ahead(&self.runtime, wanted, &self.caches.0.ahead);
        Some(Ahead { source, download })
    }

    fn deliver(&self, to: &mut Delivered, mut ahead: Option<Ahead>) -> Result<(), Stop> {
        let mut reasons: HashMap<String, String> = HashMap::new();
        let mut sources = self.sources();
        for source in self.path.sources.iter().filter(|source| self.caches.is_distrusted(source)) {
            reasons.insert(source.cache.clone(), "it delivered something else".into());
        }
        let mut asked_again = false;
        let mut round = 0;
        loop {
            let mut pause = None;
            let mut left = Vec::new();
            for source in sources {
                let Some((cache, wanted)) = self.wanted(&source) else { continue };
                let download = match ahead.take_if(|ahead| ahead.source == source) {
                    Some(ahead) => ahead.download,
                    None => Download::begin(&self.runtime, wanted),
                };
                let reason = match self.read(&source, download, to) {
                    Ok(()) => return Ok(()),
                    Err(Failure::Unwanted) => return Err(Stop::Unwanted),
                    Err(Failure::Transport(error)) => {
                        if error.is_transient() {
                            cache.note_unreliable();
                            let wait =
                                error.retry_after().unwrap_or(self.caches.0.limits.pause * 4_u32.pow(round));
                            pause = Some(pause.map_or(wait, |pause: Duration| pause.min(wait)));
                            left.push(source.clone());
                        }
                        error.to_string()
                    }
                    Err(Failure::Wrong(reason)) => {
                        self.caches.distrust(&source);
                        if to.size > 0 {
                            return Err(Stop::Failed(self.wrong(&source, reason)));
                        }
                        reason
                    }
                    Err(Failure::Contradiction) => {
                        // Whoever lies, without the earlier ones there is no contradiction.
                        to.from.iter().for_each(|source| self.caches.distrust(source));
                        let reason = format!("{} has something else", source.cache);
                        return Err(Stop::Failed(self.wrong(&to.from[0], reason)));
                    }
                };
                tracing::warn!(path = %self.path.info.path, cache = source.cache, reason, "a binary cache does not deliver a path");
                reasons.insert(source.cache, reason);
            }
            if left.is_empty() && !asked_again {
                // The narinfo may be old, or of a cache that is gone.
                asked_again = true;
                left = self.runtime.block_on(self.caches.sources_now(&self.path));
                pause = Some(Duration::ZERO);
            }
            round += 1;
            let limit = self.caches.0.limits.longest_pause;
            match pause {
                Some(pause) if !left.is_empty() && round < ROUNDS && pause <= limit => thread::sleep(pause),
                _ => break,
            }
            sources = left;
        }
        let mut reasons: Vec<_> =
            reasons.into_iter().map(|(cache, reason)| format!("{cache}: {reason}")).collect();
        reasons.sort();
        let reasons = if reasons.is_empty() { "none has it".into() } else { reasons.join("; ") };
        Err(Stop::Failed(NarError::Unavailable { path: self.path.info.path.clone(), reasons }))
    }

    fn wrong(&self, source: &Source, reason: String) -> NarError {
        NarError::Wrong {
            path: self.path.info.path.clone(),
            cache: source.cache.clone(),
            reason,
            has_other: !self.sources().is_empty(),
        }
    }

    /// Reads one source to its end. What was delivered already is compared.
    fn read(&self, source: &Source, download: Download, to: &mut Delivered) -> Result<(), Failure> {
        let info = &self.path.info;
        let decoder = Decoder::new(&source.compression, download)
            .map_err(|error| Failure::Transport(TransportError::Client(error.to_string())))?;
        let mut decoder = decoder
            .ok_or_else(|| Failure::Wrong(format!("the compression {:?} is unknown", source.compression)))?;
        let mut hasher = Sha256::new();
        let mut size = 0;
        loop {
            // Up to what was delivered, then on.
            let wanted = match to.size.checked_sub(size) {
                Some(known) if known > 0 => known.min(CHUNK),
                _ => CHUNK,
            };
            let mut chunk = Vec::with_capacity(wanted as usize);
            decoder.by_ref().take(wanted).read_to_end(&mut chunk).map_err(failure)?;
            if chunk.is_empty() {
                break;
            }
            let is_new = size == to.size;
            size += chunk.len() as u64;
            if size > info.nar_size {
                return Err(Failure::Wrong(format!("it has more than {} bytes", info.nar_size)));
            }
            hasher.update(&chunk);
            if is_new {
                if to.from.last().is_none_or(|last| last.cache != source.cache) {
                    to.from.push(source.clone());
                }
                to.size = size;
                to.hasher = hasher.clone();
                to.to.send(Ok(Some(chunk.into()))).map_err(|_| Failure::Unwanted)?;
            } else if size == to.size && hasher.clone().finalize() != to.hasher.clone().finalize() {
                return Err(Failure::Contradiction);
            }
        }
        if size < info.nar_size {
            return Err(Failure::Wrong(format!("it has {size} bytes instead of {}", info.nar_size)));
        }
        match NarHash::from_bytes(hasher.finalize().into()) {
            hash if hash == info.nar_hash => Ok(()),
            hash => Err(Failure::Wrong(format!("its hash is {hash} instead of {}", info.nar_hash))),
        }
    }
}

/// A failure to download, or to decompress what was downloaded.
fn failure(error: io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TransportError>()) {
        Some(TransportError::TooLarge(most)) => {
            Failure::Wrong(format!("it goes on after {most} compressed bytes"))
        }
        Some(transport) => Failure::Transport(transport.clone()),
        // A connection without a length was cut.
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Failure::Transport(TransportError::Connection("it stops in the middle".into()))
        }
        None => Failure::Wrong(format!("it cannot be decompressed: {error}")),
    }
}
