//! The seam between packing and where file trees are: on a disk, in an archive, in memory.

use super::{PackingError, file_content::FileContent};
use std::path::Path;

/// Reads a file tree step by step: the root, and after each directory what it holds, in the order of the bytes of names,
/// and then [`Step::Leave`]. A NAR has the same order.
///
/// Packing checks the names and their order, adds up the size of the NAR, and finds equal files.
pub trait TreeReader: Send {
    /// Where the root is read from, for error messages.
    fn origin(&self) -> &Path;

    /// The next step; none at the end of the tree.
    ///
    /// # Errors
    /// When the tree cannot be read, or holds what no store path holds.
    fn step(&mut self) -> Result<Option<Step>, PackingError>;

    /// Whether what was read so far is what the tree really holds. This is called before the tree is blamed for a name
    /// that no layer can have. No step follows.
    ///
    /// # Errors
    /// When another tree was read, such as one that a binary cache made up.
    fn confirm(&mut self) -> Result<(), PackingError> {
        Ok(())
    }
}

/// One step through a file tree.
#[derive(Debug)]
pub enum Step {
    /// To what has this name in the directory. The name of the root does not count.
    Enter(Vec<u8>, Node),
    /// Out of the directory.
    Leave,
}

/// What a file tree consists of.
#[derive(Debug)]
pub enum Node {
    /// A directory. What it holds comes next.
    Directory,
    /// A symlink with its target.
    Symlink(Vec<u8>),
    /// A regular file.
    File {
        /// Whether it is a program.
        is_executable: bool,
        /// Its bytes.
        content: FileContent,
    },
}
