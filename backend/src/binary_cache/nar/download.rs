//! The compressed bytes of a NAR: downloaded by a task, read by a thread.

use crate::binary_cache::limits::Limits;
use crate::binary_cache::transport::{Transport, TransportError};
use bytes::{Buf, Bytes};
use futures::StreamExt;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

/// How many chunks wait to be read. A chunk has some hundred kilobytes at most.
const CHUNKS: usize = 4;
/// How often in a row a download that made no progress is resumed.
const RESUMES: u32 = 3;
/// So many bytes are progress.
const PROGRESS: u64 = 1 << 20;

/// What is to be downloaded.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) transport: Transport,
    pub(super) location: String,
    /// Size in bytes, as the cache says it.
    pub(super) file_size: Option<u64>,
    /// More bytes than this are not read.
    pub(super) most: u64,
    pub(super) limits: Limits,
    /// Counts the bytes that arrive.
    pub(super) fetched: Arc<AtomicU64>,
}

/// A download, read by a thread that may wait. Dropping it ends the download.
pub(super) struct Download {
    chunk: Bytes,
    chunks: mpsc::Receiver<Result<Chunk, TransportError>>,
    start: Arc<Notify>,
    /// The turn of what was downloaded ahead, until it has been read.
    _turn: Option<OwnedSemaphorePermit>,
    /// Whether the end of the file was reached.
    is_at_end: bool,
}

enum Chunk {
    /// The download began ahead.
    Turn(OwnedSemaphorePermit),
    Bytes(Bytes),
    End,
}

impl Download {
    /// A download that begins at once.
    pub(super) fn begin(runtime: &Handle, wanted: Wanted) -> Self {
        let start = Arc::new(Notify::new());
        start.notify_one();
        Self::spawn(runtime, wanted, start, None)
    }

    /// A download that begins when it gets one of the `turns`, or when it is read. What arrives waits in memory, so that
    /// the next NAR of a layer is there when its turn comes.
    pub(super) fn ahead(runtime: &Handle, wanted: Wanted, turns: &Arc<Semaphore>) -> Self {
        Self::spawn(runtime, wanted, Arc::new(Notify::new()), Some(Arc::clone(turns)))
    }

    fn spawn(runtime: &Handle, wanted: Wanted, start: Arc<Notify>, turns: Option<Arc<Semaphore>>) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let started = Arc::clone(&start);
        runtime.spawn(async move {
            let turn = async {
                match turns {
                    Some(turns) => turns.acquire_owned().await.expect("the semaphore is never closed"),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = started.notified() => {}
                () = sender.closed() => return,
                turn = turn => drop(sender.send(Ok(Chunk::Turn(turn))).await),
            }
            let end = tokio::select! {
                end = wanted.download(&sender) => end.map(|()| Chunk::End),
                // Nobody reads any more.
                () = sender.closed() => return,
            };
            let _ = sender.send(end).await;
        });
        Self { chunk: Bytes::new(), chunks, start, _turn: None, is_at_end: false }
    }
}

impl Wanted {
    async fn download(&self, to: &mpsc::Sender<Result<Chunk, TransportError>>) -> Result<(), TransportError> {
        let mut at = Position::default();
        let mut resumes = 0;
        loop {
            let before = at.offset;
            let error = match self.attempt(&mut at, to).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if at.offset - before >= PROGRESS {
                resumes = 0;
            }
            // What never began is for the caller, who may know another cache.
            if at.offset == 0 || !error.is_transient() || resumes == RESUMES {
                return Err(error);
            }
            // To be slow takes long, and another cache may be faster.
            if error == TransportError::Slow {
                resumes = RESUMES - 1;
            }
            resumes += 1;
            tracing::debug!(location = self.location, offset = at.offset, reason = %error, "a download is resumed");
            tokio::time::sleep(
                error.retry_after().unwrap_or(self.limits.pause).min(self.limits.longest_pause),
            )
            .await;
        }
    }

    /// Downloads from a position on, until the end or an error.
    async fn attempt(
        &self,
        at: &mut Position,
        to: &mpsc::Sender<Result<Chunk, TransportError>>,
    ) -> Result<(), TransportError> {
        let mut pace = Pace::new(&self.limits);
        let body = self.transport.body(&self.location, at.offset, at.version.as_deref());
        let mut body = pace.wait(body).await??;
        let is_other = |old: &Option<_>, new: &Option<_>| old.is_some() && new.is_some() && old != new;
        let total = |total: &Option<u64>| total.map(|total| total.to_string());
        if is_other(&at.version, &body.version) || is_other(&total(&at.total), &total(&body.total)) {
            return Err(TransportError::Replaced);
        }
        at.version = at.version.take().or(body.version);
        at.total = at.total.or(body.total);
        // A server that does not know ranges sends what is known already.
        let mut known = at.offset.checked_sub(body.start).ok_or(TransportError::Replaced)?;
        while let Some(chunk) = pace.wait(body.chunks.next()).await? {
            let mut chunk = chunk?;
            pace.arrived(chunk.len());
            self.fetched.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            let skipped = usize::try_from(known).unwrap_or(usize::MAX).min(chunk.len());
            chunk.advance(skipped);
            known -= skipped as u64;
            at.offset += chunk.len() as u64;
            if at.offset > self.most {
                return Err(TransportError::TooLarge(self.most));
            }
            if !chunk.is_empty() && to.send(Ok(Chunk::Bytes(chunk))).await.is_err() {
                return Ok(());
            }
        }
        // Without a length, the end of a connection may be the end of the file or not.
        match at.total.or(self.file_size) {
            Some(total) if at.offset < total => {
                Err(TransportError::Connection(format!("it stops after {} of {total} bytes", at.offset)))
            }
            _ => Ok(()),
        }
    }
}

/// How far a download has come.
#[derive(Default)]
struct Position {
    offset: u64,
    /// The version of the file.
    version: Option<String>,
    /// Its size in bytes.
    total: Option<u64>,
}

/// Measures how fast a cache delivers. Only the time counts in which Firn waits for it.
struct Pace {
    patience: Duration,
    least: u64,
    waited: Duration,
    arrived: u64,
}

impl Pace {
    fn new(limits: &Limits) -> Self {
        Self { patience: limits.patience, least: limits.least_bytes, waited: Duration::ZERO, arrived: 0 }
    }

    async fn wait<T>(&mut self, what: impl Future<Output = T>) -> Result<T, TransportError> {
        let mut what = std::pin::pin!(what);
        loop {
            let since = Instant::now();
            let result = tokio::time::timeout(self.patience.saturating_sub(self.waited), &mut what).await;
            self.waited += since.elapsed();
            if self.waited >= self.patience {
                if self.arrived < self.least {
                    return result.map_err(|_| TransportError::Slow);
                }
                (self.waited, self.arrived) = (Duration::ZERO, 0);
            }
            if let Ok(result) = result {
                return Ok(result);
            }
        }
    }

    fn arrived(&mut self, bytes: usize) {
        self.arrived += bytes as u64;
    }
}

impl BufRead for Download {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.chunk.is_empty() && !self.is_at_end {
            self.start.notify_one();
            match self.chunks.blocking_recv() {
                Some(Ok(Chunk::Bytes(bytes))) => self.chunk = bytes,
                Some(Ok(Chunk::Turn(turn))) => self._turn = Some(turn),
                Some(Ok(Chunk::End)) => self.is_at_end = true,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Err(io::Error::other(TransportError::Connection("the server stops".into()))),
            }
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, amount: usize) {
        self.chunk.advance(amount);
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let length = chunk.len().min(buffer.len());
        buffer[..length].copy_from_slice(&chunk[..length]);
        self.consume(length);
        Ok(length)
    }
}
