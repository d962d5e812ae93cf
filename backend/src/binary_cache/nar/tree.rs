//! The file tree of a store path, read from a NAR while it is downloaded.

use super::delivery::{Ahead, Delivery, Order};
use super::reader::{Chunks as _, Entry, Item, NarReader, ReadNarError};
use crate::binary_cache::{BinaryCaches, CachedPath, NarError};
use crate::packing::{ContentStream, FileContent, PackingError, ReadContent, Step, TreeEntry, TreeReader};
use bytes::Bytes;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::runtime::Handle;

/// Files below this size, in bytes, are passed on whole.
const SMALL: u64 = 64 << 10;

/// Reads the tree of a store path from a NAR while it is downloaded. After the last step, the NAR was what its narinfo
/// says; otherwise the last step is an error.
pub struct NarTree {
    origin: PathBuf,
    stage: Stage,
}

enum Stage {
    /// Not read yet. Its beginning may be downloaded already.
    Ordered(Box<Order>, Option<Ahead>),
    Open(Arc<Mutex<OpenNar>>),
    /// At the end, or after an error.
    Closed,
}

/// A NAR that the tree and the content of its files read in turn.
struct OpenNar {
    origin: PathBuf,
    /// None after an error.
    reader: Option<NarReader<Delivery>>,
}

impl NarTree {
    pub(in crate::binary_cache) fn new(
        caches: BinaryCaches,
        path: CachedPath,
        fetched: Arc<AtomicU64>,
    ) -> Self {
        let origin = path.info.path.as_str().into();
        let order = Order { caches, path, runtime: Handle::current(), fetched };
        let ahead = order.ahead();
        Self { origin, stage: Stage::Ordered(Box::new(order), ahead) }
    }

    fn open(&mut self) -> Result<Option<Arc<Mutex<OpenNar>>>, PackingError> {
        match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Closed => return Ok(None),
            Stage::Open(nar) => self.stage = Stage::Open(nar),
            Stage::Ordered(order, ahead) => {
                let delivery = Delivery::begin(*order, ahead).map_err(PackingError::Thread)?;
                let nar = OpenNar { origin: self.origin.clone(), reader: Some(NarReader::new(delivery)) };
                self.stage = Stage::Open(Arc::new(Mutex::new(nar)));
            }
        }
        match &self.stage {
            Stage::Open(nar) => Ok(Some(Arc::clone(nar))),
            _ => Ok(None),
        }
    }
}

impl TreeReader for NarTree {
    fn origin(&self) -> &Path {
        &self.origin
    }

    fn step(&mut self) -> Result<Option<Step>, PackingError> {
        let Some(nar) = self.open()? else { return Ok(None) };
        let item = OpenNar::lock(&nar).read(NarReader::step)?;
        Ok(match item {
            Some(Item::Enter(name, entry)) => {
                let node = match entry {
                    Entry::Directory => TreeEntry::Directory,
                    Entry::Symlink(target) => TreeEntry::Symlink(target.into()),
                    Entry::File { is_executable, size } => {
                        let content = if size < SMALL {
                            let whole = |reader: &mut NarReader<_>| reader.whole_content(size as usize);
                            FileContent::Bytes(OpenNar::lock(&nar).read(whole)?)
                        } else {
                            FileContent::Stream(Box::new(ContentStream::new(size, Content(nar))))
                        };
                        TreeEntry::File { is_executable, content }
                    }
                };
                Some(Step::Enter(name.into(), node))
            }
            Some(Item::Leave) => Some(Step::Leave),
            None => {
                self.stage = Stage::Closed;
                None
            }
        })
    }

    fn confirm(&mut self) -> Result<(), PackingError> {
        match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Open(nar) => OpenNar::lock(&nar).confirm(),
            Stage::Ordered(..) | Stage::Closed => Ok(()),
        }
    }
}

impl OpenNar {
    fn lock(nar: &Mutex<Self>) -> MutexGuard<'_, Self> {
        nar.lock().expect("nothing panics while it is locked")
    }

    fn read<T>(
        &mut self,
        read: impl FnOnce(&mut NarReader<Delivery>) -> Result<T, ReadNarError<NarError>>,
    ) -> Result<T, PackingError> {
        let Some(reader) = &mut self.reader else {
            return Err(self.failed(io::Error::other("it could not be read before")));
        };
        match read(reader) {
            Ok(read) => Ok(read),
            Err(ReadNarError::Chunks(error)) => {
                self.reader = None;
                Err(self.failed(error.into()))
            }
            Err(ReadNarError::Format(reason)) => {
                // A cache that delivers something else is to be blamed for it.
                self.confirm()?;
                Err(self.failed(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("its NAR is malformed: {reason}"),
                )))
            }
        }
    }

    /// Reads to the end, which tells whether the bytes are what the narinfo says.
    fn confirm(&mut self) -> Result<(), PackingError> {
        let Some(reader) = self.reader.take() else { return Ok(()) };
        let mut rest = reader.into_chunks();
        loop {
            match rest.next() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.failed(error.into())),
            }
        }
    }

    fn failed(&self, source: io::Error) -> PackingError {
        PackingError::Read { path: self.origin.clone(), source }
    }
}

/// The content of the file that the reader is in.
struct Content(Arc<Mutex<OpenNar>>);

impl ReadContent for Content {
    fn read(&mut self, most: usize) -> Result<Bytes, PackingError> {
        OpenNar::lock(&self.0).read(|reader| reader.content(most))
    }
}
