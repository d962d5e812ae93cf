//! The memory that blocks live in.

use super::PackingError;
use super::blocks::BlockPlan;
use super::encoder::Compressor;
use super::fill::fill;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// A fixed number of blocks. Having one is the right to use its memory, so their number is the memory bound.
///
/// By hand and not a channel: what came back last is taken first, since its memory is in the caches, and what one
/// layer does not need is never touched.
pub(super) struct BlockPool(Arc<Idle>);

struct Idle {
    buffers: Mutex<Vec<Buffers>>,
    came_back: Condvar,
}

/// Both sides of a block. Buffers go from layer to layer, because fresh memory costs a page fault for every
/// 4 KiB.
#[derive(Default)]
struct Buffers {
    tar: Vec<u8>,
    /// Longer than what it holds.
    compressed: Vec<u8>,
    compressed_length: usize,
}

/// A block that is in use. Goes back to the pool when it is dropped, wherever that happens.
pub(super) struct Block {
    buffers: Buffers,
    pool: Arc<Idle>,
}

impl BlockPool {
    pub(super) fn new(blocks: usize) -> Self {
        let buffers = (0..blocks).map(|_| Buffers::default()).collect();
        Self(Arc::new(Idle { buffers: Mutex::new(buffers), came_back: Condvar::new() }))
    }

    /// A block, as soon as there is one.
    pub(super) fn take(&self) -> Block {
        let mut idle = self.0.lock();
        loop {
            match idle.pop() {
                Some(buffers) => return self.block(buffers),
                None => idle = self.0.came_back.wait(idle).expect(LOCKED),
            }
        }
    }

    /// A block, if there is one now.
    pub(super) fn try_take(&self) -> Option<Block> {
        let buffers = self.0.lock().pop()?;
        Some(self.block(buffers))
    }

    /// Releases the memory of blocks that nobody has.
    pub(super) fn free_memory(&self) {
        self.0.lock().fill_with(Buffers::default);
    }

    fn block(&self, buffers: Buffers) -> Block {
        Block { buffers, pool: Arc::clone(&self.0) }
    }
}

const LOCKED: &str = "nothing panics while it is locked";

impl Idle {
    fn lock(&self) -> MutexGuard<'_, Vec<Buffers>> {
        self.buffers.lock().expect(LOCKED)
    }
}

impl Block {
    /// Reads and compresses what the plan says.
    pub(super) fn produce(
        &mut self,
        plan: &BlockPlan,
        compressor: &mut Compressor,
    ) -> Result<(), PackingError> {
        let Buffers { tar, compressed, compressed_length } = &mut self.buffers;
        tar.resize(plan.length, 0);
        fill(plan, tar)?;
        *compressed_length = compressor.compress(tar, compressed)?;
        Ok(())
    }

    pub(super) fn tar(&self) -> &[u8] {
        &self.buffers.tar
    }

    pub(super) fn compressed(&self) -> &[u8] {
        &self.buffers.compressed[..self.buffers.compressed_length]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.pool.lock().push(mem::take(&mut self.buffers));
        self.pool.came_back.notify_one();
    }
}
