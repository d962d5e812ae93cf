//! Delivers the NAR of a store path: from its first source that can, decompressed and checked.

use super::decoder::Decoder;
use super::download::{Download, Wanted};
use super::reader::Chunks;
use crate::binary_cache::cache::Cache;
use crate::binary_cache::narinfo::most_compressed;
use crate::binary_cache::transport::TransportError;
use crate::binary_cache::{BinaryCaches, CachedPath, Doubt, NarError, Source};
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
    /// The download of a source; `None` if its cache is not configured. `is_only` if there is no other source to turn to.
    fn wanted(&self, source: &Source, is_only: bool) -> Option<(&Cache, Wanted)> {
        let cache = self.caches.cache(&source.cache)?;
        let limits = &self.caches.0.limits;
        let wanted = Wanted {
            transport: cache.transport.clone(),
            location: source.location.clone(),
            file_size: source.file_size,
            most: most_compressed(source.nar_size),
            limits: limits.of_file(source.file_size.unwrap_or(source.nar_size), is_only),
            fetched: Arc::clone(&self.fetched),
        };
        Some((cache, wanted))
    }

    /// The sources. Those that delivered something else come last, and before them those of caches that did not deliver
    /// last: all of them may be right, and an outage of the others must not make the path unavailable.
    fn sources(&self) -> Vec<Source> {
        let mut sources = self.path.sources.clone();
        sources.sort_by_key(|source| {
            let is_unreliable = self.caches.cache(&source.cache).is_some_and(Cache::is_unreliable);
            (self.caches.doubt_in(source), is_unreliable)
        });
        sources
    }

    /// Whether a source has delivered something else.
    fn is_wrong(&self, source: &Source) -> bool {
        self.caches.doubt_in(source) == Some(Doubt::Wrong)
    }

    /// Begins to download the first source as soon as few enough other downloads wait.
    pub(super) fn ahead(&self) -> Option<Ahead> {
        let sources = self.sources();
        let is_only = sources.len() == 1;
        let source = sources.into_iter().next()?;
        let (_, wanted) = self.wanted(&source, is_only)?;
        let download = Download::ahead(&self.runtime, wanted, &self.caches.0.ahead);
        Some(Ahead { source, download })
    }

    fn deliver(&self, to: &mut Delivered, mut ahead: Option<Ahead>) -> Result<(), Stop> {
        let mut reasons: HashMap<String, String> = HashMap::new();
        let mut sources = self.sources();
        let (mut asked_again, mut is_gone) = (false, true);
        if sources.iter().all(|source| self.is_wrong(source)) {
            // What is on record may be the lie of one cache.
            asked_again = true;
            let now = self.runtime.block_on(self.caches.sources_now(&self.path));
            is_gone = now.is_gone;
            sources = now.others.into_iter().chain(sources).collect();
        }
        let mut round = 0;
        loop {
            let mut pause = None;
            let mut left = Vec::new();
            // If all are slow, it is not for the caches.
            let is_only = sources.len() == 1 || round > 0;
            for source in sources {
                let Some((cache, wanted)) = self.wanted(&source, is_only) else { continue };
                let download = match ahead.take_if(|ahead| ahead.source == source) {
                    Some(ahead) => ahead.download,
                    None => Download::begin(&self.runtime, wanted),
                };
                let limits = &self.caches.0.limits;
                let reason = match self.read(&source, download, to) {
                    Ok(()) => return Ok(()),
                    Err(Failure::Unwanted) => return Err(Stop::Unwanted),
                    Err(Failure::Transport(error)) => {
                        is_gone &= error.is_absence();
                        if error.is_transient() {
                            cache.note_unreliable(limits.aside);
                            let wait = error.retry_after().unwrap_or(limits.pause * 4_u32.pow(round));
                            pause = Some(pause.map_or(wait, |pause: Duration| pause.min(wait)));
                            left.push(source.clone());
                        }
                        error.to_string()
                    }
                    Err(Failure::Wrong(reason)) => {
                        is_gone = false;
                        self.caches.doubt(&source, Doubt::Wrong);
                        // Who lies about one path lies about others.
                        cache.note_unreliable(limits.distrust);
                        if to.size > 0 {
                            return Err(Stop::Failed(self.wrong(&source, reason)));
                        }
                        reason
                    }
                    Err(Failure::Contradiction) => {
                        // Which of them is wrong shows when one is read from its beginning. That will be this one.
                        to.from.iter().for_each(|source| self.caches.doubt(source, Doubt::Contradicted));
                        return Err(Stop::Failed(NarError::Wrong {
                            path: self.path.info.path.clone(),
                            cache: to.from[0].cache.clone(),
                            reason: format!("{} has something else", source.cache),
                            has_other: true,
                        }));
                    }
                };
                tracing::warn!(path = %self.path.info.path, cache = source.cache, reason, "a binary cache does not deliver a path");
                reasons.insert(source.cache, reason);
            }
            if left.is_empty() && !asked_again {
                // The narinfo may be old, or of a cache that is gone.
                asked_again = true;
                let now = self.runtime.block_on(self.caches.sources_now(&self.path));
                is_gone &= now.is_gone;
                left = now.others;
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
        let path = self.path.info.path.clone();
        Err(Stop::Failed(match is_gone && asked_again {
            true => NarError::Gone { path, reasons },
            false => NarError::Unavailable { path, reasons },
        }))
    }

    fn wrong(&self, source: &Source, reason: String) -> NarError {
        let has_other = self.path.sources.iter().any(|source| !self.is_wrong(source))
            || !self.runtime.block_on(self.caches.sources_now(&self.path)).others.is_empty();
        let (path, cache) = (self.path.info.path.clone(), source.cache.clone());
        NarError::Wrong { path, cache, reason, has_other }
    }

    /// Reads one source to its end. What was delivered already is compared.
    fn read(&self, source: &Source, download: Download, to: &mut Delivered) -> Result<(), Failure> {
        // Without a size that is authentic, each source may have its own. The hash decides.
        let (expect, nar_size) = (self.path.info.nar_hash, source.nar_size);
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
            if size > nar_size {
                return Err(Failure::Wrong(format!("it has more than {nar_size} bytes")));
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
        if size < nar_size {
            return Err(Failure::Wrong(format!("it has {size} bytes instead of {nar_size}")));
        }
        match NarHash::from_bytes(hasher.finalize().into()) {
            hash if hash == expect => Ok(()),
            hash => Err(Failure::Wrong(format!("its hash is {hash} instead of {expect}"))),
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
