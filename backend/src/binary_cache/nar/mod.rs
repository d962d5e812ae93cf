//! NARs as file trees: `download` → `decoder` → `delivery` checks size and hash → `reader` → `tree`.
//!
//! A task downloads, a thread decompresses and checks, and the thread of whoever reads the tree reads the format. Between
//! them are short queues, so the memory is bounded whatever the sizes.

mod decoder;
mod delivery;
mod download;
mod reader;
mod tree;

pub use tree::NarTree;
