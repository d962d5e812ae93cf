//! Layer tars, byte for byte the same wherever and whenever they are written (OCI image spec, "layer.md").
//!
//! An entry has a name, a kind, permissions and, for files, bytes; the time is always the same (1 s after the
//! epoch, as in the Nix store). Two choices are made here for every layer:
//!
//! - **Names are relative** (`nix/store/…`, directories with a trailing slash) and hold the whole path inside
//!   the image. GNU tar strips a leading `/` with a warning and the OCI specification's own layers have none;
//!   every client resolves both to the same file.
//! - **POSIX (USTAR) headers**, which hold names of up to 255 bytes, **and GNU extensions, not PAX**, for what
//!   does not fit: longer names, link targets of more than 100 bytes, sizes of 8 GiB and more. GNU's hold any
//!   bytes (PAX values are UTF-8), and every tar reader in use knows both. In a closure of Nix packages almost
//!   half of the names are longer than 100 bytes; records for them would make the tar 1.4 % larger.
//!
//! There is no reading of archives here, and no file system: the backend brings store paths, the edge and
//! the backend bring symlink forests. Extended attributes and devices do not exist in a NAR and so
//! cannot be expressed.

mod blob;
mod header;
mod image_path;
mod permissions;
mod writer;

#[cfg(test)]
mod tests;

pub use blob::{Blob, Content, Entry, PackError, pack};
pub use header::{END, Kind, encode_header, padding};
pub use image_path::{ImagePath, ParseImagePathError};
pub use permissions::Permissions;
pub use writer::Writer;
