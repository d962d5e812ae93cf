//! Packs store paths into layers in one streaming pass: tar → sha256 (`diff_id`) → compress → sha256 (`digest`) →
//! writer.
//!
//! The tar of a layer is cut into blocks of fixed size. The calling thread walks the file system, plans each block
//! (`blocks`) and hands it to a worker of the [`Packer`]. The worker reads the files of the block and compresses it
//! (`fill`, `encoder`). The calling thread receives the finished blocks in order, hashes their uncompressed and
//! compressed bytes, and writes them. Reading, compressing, hashing and writing overlap, within a layer and between
//! layers.
//!
//! - **Memory** is limited by the number of blocks, a few per worker, however many and large the layers are.
//! - **Bytes** depend only on the files and the [`Encoder`]. Each block is compressed independently, so it does not
//!   matter which thread compresses it, and when.
//! - **Errors** end a layer. The caller, which created `out`, discards what was written. A layer cannot be repaired,
//!   because a tar states each file's size before its bytes.
//!
//! A store path has only what a NAR has: names, directories, bytes, executable bits, symbolic links. Equal files of a
//! path become hard links (`twins`). Holes in sparse files are skipped while reading but written as zeros, because
//! clients disagree about the tar extensions for them. Other modules decide where layers are stored and which paths
//! they contain.

mod block_pool;
mod blocks;
mod content_stream;
mod disk;
mod encoder;
mod error;
mod file_content;
mod fill;
mod nar_size;
mod packer;
mod piece_hashes;
mod source_file;
mod spool;
mod still_content;
mod tree;
mod tree_reader;
mod twins;
mod walk;

#[cfg(test)]
mod tests;

pub use content_stream::{ContentStream, ReadContent};
pub use disk::DiskTree;
pub use encoder::{Encoder, ParseEncoderError};
pub use error::PackingError;
pub use file_content::FileContent;
pub use packer::{PackedLayer, Packer};
pub use source_file::SourceFile;
#[cfg(test)]
pub(crate) use tests::noise;
pub use tree::FileTree;
pub use tree_reader::{Step, TreeEntry, TreeReader};
