//! The memory of blocks.

use super::PackingError;
use super::blocks::BlockPlan;
use super::encoder::Compressor;
use super::fill::fill;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// A fixed number of blocks. Only the owner of a block may use its memory, so their number limits the memory.
///
/// This is not a channel, for two reasons. The block that was returned last is taken first, because its memory is in
/// the CPU's caches. And blocks that are not needed are never touched.
pub(super) struct BlockPool(Arc<Idle>);

struct Idle {
    buffers: Mutex<Vec<Buffers>>,
    came_back: Condvar,
}

/// The uncompressed and the compressed bytes of a block. Buffers are reused for other layers, because fresh memory
/// costs a page fault for every 4 KiB.
#[derive(Default)]
struct Buffers {
    tar: Vec<u8>,
    /// Longer than its contents.
    compressed: Vec<u8>,
    compressed_length: usize,
}

/// A block in use. Dropping it returns it to the pool.
pub(super) struct Block {
    buffers: Buffers,
    pool: Arc<Idle>,
}

impl BlockPool {
    pub(super) fn new(blocks: usize) -> Self {
        let buffers = (0..blocks).map(|_| Buffers::default()).collect();
        Self(Arc::new(Idle { buffers: Mutex::new(buffers), came_back: Condvar::new() }))
    }

    /// Waits for a block.
    pub(super) fn take(&self) -> Block {
        let mut idle = self.0.lock();
        loop {
            match idle.pop() {
                Some(buffers) => return self.block(buffers),
                None => idle = self.0.came_back.wait(idle).expect(LOCKED),
            }
        }
    }

    /// A block, if one is free.
    pub(super) fn try_take(&self) -> Option<Block> {
        let buffers = self.0.lock().pop()?;
        Some(self.block(buffers))
    }

    /// Frees the memory of unused blocks.
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
    /// Reads and compresses the bytes of the plan.
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
