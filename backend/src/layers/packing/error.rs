//! What can go wrong while a layer is packed.

use std::io;
use std::path::PathBuf;

/// Why a layer could not be packed. What has been written of it must be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum PackingError {
    /// The path is not absolute, or a name in it is `.`, `..` or no name.
    #[error("{} cannot be packed: its path is not absolute and canonical", path.display())]
    Path {
        /// As given.
        path: PathBuf,
        /// Which rule it breaks.
        source: firn_shared::archive::ParseImagePathError,
    },
    /// The same path, or one inside another, was given twice.
    #[error("{} is given twice, by itself or inside another path", path.display())]
    Overlap {
        /// The later one.
        path: PathBuf,
    },
    /// A file or directory cannot be read, or has vanished.
    #[error("cannot read {}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file's size or time changed after the layer had promised it.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// Which file.
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
        /// Where.
        path: PathBuf,
    },
    /// A name that begins with `.wh.`: to clients that unpack a layer, it is an order to delete something (OCI image
    /// spec, "layer.md"), and no layer can hold a file of that name.
    #[error("{} cannot be in an image: a name that begins with .wh. means in a layer that a file is deleted", path.display())]
    Whiteout {
        /// Where.
        path: PathBuf,
    },
    /// The layer cannot be written.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    /// The compressor refused the block, which means a defect or a lack of memory.
    #[error("cannot compress: {0}")]
    Compress(String),
    /// The packer's threads are gone, which means a defect in them.
    #[error("the packer has stopped")]
    Stopped,
}
