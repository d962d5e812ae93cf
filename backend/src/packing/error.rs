//! Errors while packing a layer.

use std::io;
use std::path::PathBuf;

/// Why a layer could not be packed. The part that was written must be discarded.
#[derive(Debug, thiserror::Error)]
pub enum PackingError {
    /// The path is not absolute, or a name in it is `.`, `..` or no name.
    #[error("{} cannot be packed: its path is not absolute and canonical", path.display())]
    Path {
        /// The path as given.
        path: PathBuf,
        /// The rule that it breaks.
        source: firn_shared::archive::ParseImagePathError,
    },
    /// A path was given twice, or with another path that contains it.
    #[error("{} is given twice, by itself or inside another path", path.display())]
    Overlap {
        /// The second of them.
        path: PathBuf,
    },
    /// A file or directory cannot be read, or has vanished.
    #[error("cannot read {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file's size or time changed after its header was written to the layer.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A tree is not in the order of names, or has more than one root.
    #[error("{} is out of order in its tree", path.display())]
    Order {
        /// Where.
        path: PathBuf,
    },
    /// A device, socket or pipe, none of which exist in a Nix store.
    #[error("{} is neither a file, a directory nor a symlink", path.display())]
    Unsupported {
        /// Its path.
        path: PathBuf,
    },
    /// A name begins with `.wh.`. Clients that unpack a layer treat such a name as an order to delete a file (OCI
    /// image spec, "layer.md"). No layer can contain a file of that name.
    #[error("{} cannot be in an image: in a layer, a name that begins with .wh. means that a file is deleted", path.display())]
    Whiteout {
        /// Its path.
        path: PathBuf,
    },
    /// A file that has to wait for its turn cannot be written to the disk.
    #[error("cannot write a temporary file")]
    Spool(#[source] io::Error),
    /// The system has no thread for the layer.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The layer cannot be written.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    /// The compressor failed, which means a bug or a lack of memory.
    #[error("cannot compress: {0}")]
    Compress(String),
    /// The packer's threads have ended, which means a bug.
    #[error("the packer has stopped")]
    Stopped,
}
