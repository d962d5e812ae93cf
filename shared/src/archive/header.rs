//! The blocks before and after a file's bytes in a tar.

use super::{ImagePath, Permissions};
use tar::{EntryType, Header};

/// The size of a tar block, in bytes.
const BLOCK: usize = 512;
/// The size of a header's name field and link field, in bytes.
const SHORT: usize = 100;
/// The size of a USTAR header's field for the first part of a name, in bytes.
const PREFIX: usize = 155;
/// The largest file size that fits in a header as octal digits: 8 GiB - 1.
const LARGEST_OCTAL: u64 = 0o77_777_777_777;
/// The modification time of all entries: one second after the epoch, as for all files in the Nix store. It is not zero
/// because some programs take that for "no time".
const MTIME: u64 = 1;
/// The entry name of a GNU record that holds a long name or link target.
const LONG_RECORD: &[u8] = b"././@LongLink";

/// The two zero blocks that end an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A directory.
    Directory,
    /// A regular file. Its bytes follow the header; then follows [`padding`].
    File {
        /// The size of the file in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// The link's target, absolute or relative. It is not interpreted.
        target: &'a [u8],
    },
    /// A hard link to a file that comes earlier in the archive.
    HardLink {
        /// The path of that file.
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

/// The two parts of a name in a USTAR header, without the slash between them. `None` if the name is too long or has no
/// slash in a suitable place. The second part is as long as possible.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= SHORT {
        return Some((b"", name));
    }
    let earliest = name.len() - SHORT - 1;
    // Leaves out the last byte: the second part of a directory's name must be more than the closing slash.
    let slash = earliest + name[earliest..name.len() - 1].iter().position(|byte| *byte == b'/')?;
    (slash <= PREFIX).then(|| (&name[..slash], &name[slash + 1..]))
}

/// The number of zero bytes after a file of `size` bytes. They fill its last block.
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
    // `Header::set_path` is not used because on wasm32 `Path` refuses names that are not UTF-8.
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
