//! The threads and the memory for packing.

use super::block_pool::{Block, BlockPool};
use super::blocks::{BlockPlan, Blocks};
use super::encoder::Compressor;
use super::walk::Walk;
use super::{Encoder, FileTree, PackingError};
use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, bounded, unbounded};
use firn_shared::{DiffId, Digest};
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many blocks exist per worker.
const BLOCKS_PER_THREAD: usize = 4;
/// How many of these one layer may use: one that a worker processes, one that waits for the worker, and one that
/// waits to be written. (With two, packing to zstd takes 7 % longer.) The rest lets other layers start.
const BLOCKS_PER_THREAD_AND_LAYER: usize = 3;

/// A packed layer, as manifests and configs describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedLayer {
    /// The sha256 of the compressed bytes.
    pub digest: Digest,
    /// The sha256 of the tar.
    pub diff_id: DiffId,
    /// Size of the compressed bytes.
    pub size: u64,
    /// Size of the tar in bytes.
    pub uncompressed: u64,
    /// Size of the trees' NARs in bytes, as in Nix's database.
    pub nar_size: u64,
}

/// Packs layers with a fixed number of threads and a fixed amount of memory, which all layers share.
///
/// Any number of threads may call [`Packer::pack`] at once. Blocks are processed in the order in which they arrive.
/// Memory is limited to `threads` × 4 blocks of twice the encoder's block size, and is freed when no layer is being
/// packed. Dropping the packer ends its threads.
pub struct Packer {
    encoder: Encoder,
    threads: usize,
    jobs: Sender<Job>,
    blocks: BlockPool,
    layers: AtomicUsize,
    /// Where files wait that came too early.
    spool: Arc<Path>,
}

struct Job {
    plan: BlockPlan,
    block: Block,
    done: Sender<Result<Block, PackingError>>,
}

impl Packer {
    /// A packer with this many worker threads.
    pub fn new(encoder: Encoder, threads: NonZeroUsize) -> std::io::Result<Self> {
        let threads = threads.get();
        let (jobs, queue) = unbounded();
        for index in 0..threads {
            let queue = queue.clone();
            let compressor = encoder.compressor()?;
            thread::Builder::new().name(format!("pack-{index}")).spawn(move || work(&queue, compressor))?;
        }
        let blocks = BlockPool::new(threads * BLOCKS_PER_THREAD);
        Ok(Self {
            encoder,
            threads,
            jobs,
            blocks,
            layers: AtomicUsize::new(0),
            spool: std::env::temp_dir().into(),
        })
    }

    /// Has large files of streams wait in this directory, if they have to, instead of in that for temporary files. The files
    /// have no names there.
    #[must_use]
    pub fn spooling_in(self, directory: &Path) -> Self {
        Self { spool: directory.into(), ..self }
    }

    /// The encoder of this packer.
    pub fn encoder(&self) -> Encoder {
        self.encoder
    }

    /// Packs trees into one layer and writes it to `out`. Blocks until it is done.
    ///
    /// The order of `trees` does not matter. The calling thread writes to `out` in order and in large pieces, and
    /// does not flush it. After an error, discard what was written.
    pub fn pack(&self, trees: Vec<FileTree>, mut out: impl Write) -> Result<PackedLayer, PackingError> {
        self.layers.fetch_add(1, Ordering::Relaxed);
        let packed = self.pack_to(trees, &mut out);
        if self.layers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.blocks.free_memory();
        }
        packed
    }

    fn pack_to(&self, trees: Vec<FileTree>, out: &mut dyn Write) -> Result<PackedLayer, PackingError> {
        let mut blocks = Blocks::new(Walk::new(trees, &self.spool)?, self.encoder.block_size());
        // To plan may mean to wait for a download. Meanwhile the calling thread finishes blocks, so that a layer that waits
        // holds no block that others need.
        thread::scope(|scope| {
            let (sender, plans) = bounded(1);
            let planner = thread::Builder::new().name("plan".into()).spawn_scoped(scope, move || {
                // Fails if the layer has failed: then the receiver is gone.
                let _ = blocks.by_ref().try_for_each(|plan| sender.send(plan));
                blocks.entries().nar_size
            });
            let planner = planner.map_err(PackingError::Thread)?;
            let written = self.write(plans, out)?;
            let nar_size = planner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok(PackedLayer { nar_size, ..written })
        })
    }

    /// Has the workers make the blocks, and writes them in order. The result lacks the size of the NARs.
    fn write(
        &self,
        plans: Receiver<Result<BlockPlan, PackingError>>,
        out: &mut dyn Write,
    ) -> Result<PackedLayer, PackingError> {
        let mut planned = None;
        let mut all_planned = false;
        let mut under_way: VecDeque<Receiver<Result<Block, PackingError>>> = VecDeque::new();
        let (mut tar, mut compressed) = (Sha256::new(), Sha256::new());
        let (mut uncompressed, mut size) = (0, 0);
        loop {
            let has_room = under_way.len() < self.threads * BLOCKS_PER_THREAD_AND_LAYER;
            if planned.is_none() && !all_planned && has_room && is_first_ready(&plans, under_way.front()) {
                match plans.try_recv() {
                    Ok(plan) => planned = Some(plan?),
                    Err(TryRecvError::Disconnected) => all_planned = true,
                    Err(TryRecvError::Empty) => {}
                }
            }
            if planned.is_some() {
                // A layer that holds a block must not wait for another: otherwise layers could wait for each other.
                let free =
                    if under_way.is_empty() { Some(self.blocks.take()) } else { self.blocks.try_take() };
                if let Some(block) = free
                    && let Some(plan) = planned.take()
                {
                    let (done, result) = bounded(1);
                    self.jobs.send(Job { plan, block, done }).map_err(|_| PackingError::Stopped)?;
                    under_way.push_back(result);
                    continue;
                }
            }
            let Some(oldest) = under_way.pop_front() else {
                if all_planned {
                    break;
                } else {
                    continue;
                };
            };
            let block = oldest.recv().map_err(|_| PackingError::Stopped)??;
            tar.update(block.tar());
            compressed.update(block.compressed());
            uncompressed += block.tar().len() as u64;
            size += block.compressed().len() as u64;
            out.write_all(block.compressed()).map_err(PackingError::Write)?;
        }
        Ok(PackedLayer {
            digest: Digest::from_hasher(compressed),
            diff_id: DiffId::from_hasher(tar),
            size,
            uncompressed,
            nar_size: 0,
        })
    }
}

/// Waits for a message in one of the channels. Returns whether it is in the first, or that has ended.
fn is_first_ready<A, B>(first: &Receiver<A>, second: Option<&Receiver<B>>) -> bool {
    let mut select = Select::new_biased();
    select.recv(first);
    if let Some(second) = second {
        select.recv(second);
    }
    select.ready() == 0
}

/// The loop of a worker, which ends when the packer is dropped.
fn work(queue: &Receiver<Job>, mut compressor: Compressor) {
    for Job { plan, mut block, done } in queue {
        let result = block.produce(&plan, &mut compressor).map(|()| block);
        // Fails if another block of the layer has failed: then the receiver is gone.
        let _ = done.send(result);
    }
}
