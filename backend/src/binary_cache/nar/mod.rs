//! NARs as file trees.

mod tree;

pub use tree::NarTree;
