//! The memory that blocks live in.

use super::PackError;
use super::blocks::Plan;
use super::encoder::Compressor;
use super::fill::fill;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::mem;

/// A fixed number of blocks. Having one is the right to use its memory, so their number is the memory bound.
pub(super) struct BlockPool {
    free: Receiver<Buffers>,
    give_back: Sender<Buffers>,
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
    pool: Sender<Buffers>,
}

impl BlockPool {
    pub(super) fn new(blocks: usize) -> Self {
        let (give_back, free) = bounded(blocks);
        for _ in 0..blocks {
            give_back.send(Buffers::default()).expect("the pool holds as many, and is right here");
        }
        Self { free, give_back }
    }

    /// A block, as soon as there is one.
    pub(super) fn take(&self) -> Block {
        self.block(self.free.recv().expect("the pool itself holds a sender"))
    }

    /// A block, if there is one now.
    pub(super) fn try_take(&self) -> Option<Block> {
        self.free.try_recv().ok().map(|buffers| self.block(buffers))
    }

    /// Releases the memory of blocks that nobody has.
    pub(super) fn free_memory(&self) {
        let idle: Vec<Block> = self.free.try_iter().map(|_| self.block(Buffers::default())).collect();
        drop(idle);
    }

    fn block(&self, buffers: Buffers) -> Block {
        Block { buffers, pool: self.give_back.clone() }
    }
}

impl Block {
    /// Reads and compresses what the plan says.
    pub(super) fn produce(&mut self, plan: &Plan, compressor: &mut Compressor) -> Result<(), PackError> {
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
        // Fails only after the pool is gone, when the memory may go too.
        let _ = self.pool.send(mem::take(&mut self.buffers));
    }
}
