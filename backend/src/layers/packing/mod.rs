//! Packing store paths into layers: tar → sha256 (`diff_id`) → compress → sha256 (`digest`) → writer, in one
//! streaming pass.
//!
//! The tar of a layer is cut into blocks of fixed size. The calling thread walks the file trees, plans each
//! block (`blocks`) and hands it to the [`Packer`]'s workers, which read the files that the block needs and
//! compress it (`fill`, `encoder`); the calling thread takes the finished blocks back in order, hashes both
//! sides and writes. Reading, compressing, hashing and writing overlap, inside one layer and across layers.
//!
//! - **Memory** is bounded by the blocks that exist, a few per worker, however many and large the layers.
//! - **Bytes** depend on the files and the [`Encoder`] alone: each block is compressed by itself, so which
//!   thread does it, and when, leaves no trace.
//! - **Errors** end a layer; whoever made `out` throws away what was written. Nothing is ever patched up,
//!   since a tar has promised each file's size before its bytes.
//!
//! Store paths only have what a NAR has: names, directories, bytes, executable bits, symlinks. Equal files of a
//! path become hard links (`twins`); holes in sparse files are skipped when reading but written as zeros, because
//! clients disagree about the tar extensions for them. Where layers are stored and which paths belong together is
//! decided elsewhere.

mod block_pool;
mod blocks;
mod disk;
mod encoder;
mod error;
mod file_content;
mod fill;
mod nar_size;
mod packer;
mod source_file;
mod tree;
mod tree_reader;
mod twins;
mod walk;

#[cfg(test)]
mod tests;

pub use encoder::{Encoder, ParseEncoderError};
pub use error::PackingError;
pub use file_content::FileContent;
pub use packer::{PackedLayer, Packer};
pub use source_file::SourceFile;
pub use tree::FileTree;
pub use tree_reader::{Node, Step, TreeReader};
