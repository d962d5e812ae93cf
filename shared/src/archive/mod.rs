//! Writes layer tars that are byte for byte reproducible (OCI image spec, "layer.md").
//!
//! An entry has a name, a kind, permissions and, for files, bytes. Its time is always 1 s after the epoch, as in the
//! Nix store. Two rules apply to every layer:
//!
//! - **Names are relative** (`nix/store/…`, directories with a trailing slash) and contain the whole path inside the
//!   image. GNU tar strips a leading `/` with a warning, and the layers in the OCI specification have none. Every
//!   client resolves both forms to the same file.
//! - **Headers are POSIX (USTAR)**, which allow names of up to 255 bytes. **GNU extensions, not PAX,** hold what does
//!   not fit: longer names, link targets of more than 100 bytes, sizes of 8 GiB and more. GNU extensions can hold any
//!   bytes (PAX values are UTF-8), and every common tar reader knows both. In a closure of Nix packages almost half of the
//!   names are longer than 100 bytes. With GNU extensions for those, the tar would be 1.4 % larger.
//!
//! This module does not read archives and does not access the file system. The backend passes store paths to it; the
//! edge and the backend pass symlink forests. It has no extended attributes and devices, because a NAR has none.

mod blob;
mod header;
mod image_path;
mod permissions;
mod writer;

#[cfg(test)]
mod tests;

pub use blob::{ArchiveError, Blob, Content, Entry, pack};
pub use header::{END, Kind, encode_header, padding};
pub use image_path::{ImagePath, ParseImagePathError};
pub use permissions::Permissions;
pub use writer::Writer;
