//! The blocks that stand before and after a file's bytes in a tar.

use super::{ImagePath, Permissions};
use tar::{EntryType, Header};

/// Bytes in a tar block.
const BLOCK: usize = 512;
/// What fits in a header's name and link fields.
const SHORT: usize = 100;
/// What fits in a USTAR header's field for the first part of a name.
const PREFIX: usize = 155;
/// The largest size that a header holds as octal digits: 8 GiB - 1.
const LARGEST_OCTAL: u64 = 0o77_777_777_777;
/// One second after the epoch, as Nix gives to every file in its store. Not zero, which some programs take
/// to mean "no time".
const MTIME: u64 = 1;
/// The name that marks a GNU record with a long name or link target.
const LONG_RECORD: &[u8] = b"././@LongLink";

/// The two zero blocks that end an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A directory.
    Directory,
    /// A regular file of this many bytes, which follow the header, then [`padding`].
    File {
        /// Bytes in the file.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, absolute or relative, uninterpreted.
        target: &'a [u8],
    },
    /// Another name of a file that came earlier in the archive.
    HardLink {
        /// The file's name there.
        to: &'a ImagePath,
    },
}

/// Appends the header blocks of one entry to `out`.
pub fn encode_header(path: &ImagePath, permissions: Permissions, kind: Kind<'_>, out: &mut Vec<u8>) {
    let mut name = path.relative().to_vec();
    let (entry_type, size, target) = match kind {
        Kind::Directory => (EntryType::Directory, 0, b"".as_slice()),
        Kind::File { size } => (EntryType::Regular, size, b"".as_slice()),
        Kind::Symlink { target } => (EntryType::Symlink, 0, target),
        Kind::HardLink { to } => (EntryType::Link, 0, to.relative()),
    };
    if kind == Kind::Directory {
        name.push(b'/');
    }
    let is_small = target.len() <= SHORT && size <= LARGEST_OCTAL;
    let mut header = match split(&name).filter(|_| is_small) {
        Some((prefix, name)) => {
            let mut header = Header::new_ustar();
            let ustar = header.as_ustar_mut().expect("it was made as one");
            ustar.prefix[..prefix.len()].copy_from_slice(prefix);
            fill(&mut header, name, entry_type, size, permissions, MTIME);
            header
        }
        None => {
            if target.len() > SHORT {
                long_record(EntryType::GNULongLink, target, out);
            }
            if name.len() > SHORT {
                long_record(EntryType::GNULongName, &name, out);
            }
            let mut header = Header::new_gnu();
            fill(&mut header, &name, entry_type, size, permissions, MTIME);
            header
        }
    };
    copy_short(target, &mut header.as_old_mut().linkname);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

/// The two parts of a name that a USTAR header holds, the slash between them left out; none if it is too long
/// or its slashes are in the wrong places. The second part is as long as can be.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= SHORT {
        return Some((b"", name));
    }
    let earliest = name.len() - SHORT - 1;
    // Not the last byte: the second part of a directory's name must have more than its closing slash.
    let slash = earliest + name[earliest..name.len() - 1].iter().position(|byte| *byte == b'/')?;
    (slash <= PREFIX).then(|| (&name[..slash], &name[slash + 1..]))
}

/// How many zero bytes follow a file of `size` bytes, to fill its last block.
pub fn padding(size: u64) -> usize {
    let used = (size % BLOCK as u64) as usize;
    if used == 0 { 0 } else { BLOCK - used }
}

fn long_record(entry_type: EntryType, bytes: &[u8], out: &mut Vec<u8>) {
    let size = bytes.len() as u64 + 1; // GNU tar counts the closing NUL
    let mut header = Header::new_gnu();
    fill(&mut header, LONG_RECORD, entry_type, size, Permissions::FILE, 0);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(bytes);
    out.resize(out.len() + 1 + padding(size), 0);
}

fn fill(
    header: &mut Header,
    name: &[u8],
    entry_type: EntryType,
    size: u64,
    permissions: Permissions,
    mtime: u64,
) {
    // Not `Header::set_path`: it goes through `Path`, which on wasm32 refuses names that are not UTF-8.
    copy_short(name, &mut header.as_old_mut().name);
    header.set_entry_type(entry_type);
    header.set_size(size);
    header.set_mode(permissions.bits());
    header.set_uid(permissions.owner().into());
    header.set_gid(permissions.owner().into());
    header.set_mtime(mtime);
}

fn copy_short(bytes: &[u8], field: &mut [u8; SHORT]) {
    let length = bytes.len().min(SHORT);
    field[..length].copy_from_slice(&bytes[..length]);
}
