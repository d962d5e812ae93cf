//! Unpacks archives that git makes of a commit, here or at a host.

use std::io::{self, Read};
use std::path::Path;

/// Limit of one commit's files, and of what is fetched for them, in bytes.
pub(super) const MAX_BYTES: u64 = 4 << 30;
/// Limit of the number of files and directories of one commit.
const MAX_ENTRIES: usize = 2_000_000;
/// Limit of what an archive has besides the files, in bytes.
const MAX_OVERHEAD: u64 = 2 << 30;
/// The permissions that files do not get, because hosts differ in them.
const MASK: u32 = 0o022;
/// The longest global header that is read, in bytes. It has a commit in it.
const MAX_HEADER: u64 = 1000;

/// What an archive says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// The commit whose files it has (git-archive(1): "the commit ID is stored in a global extended pax header").
    pub(super) commit: Option<String>,
    /// The time of the commit in seconds since 1970: git gives it to all files.
    pub(super) time: Option<u64>,
}

/// Unpacks an archive into a directory: only directories, files and symbolic links.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] if it is too large; others if it is no archive, or cannot be written.
pub(super) fn unpack(archive: impl Read, into: &Path) -> io::Result<Unpacked> {
    let mut archive = tar::Archive::new(archive.take(MAX_BYTES + MAX_OVERHEAD));
    archive.set_mask(MASK);
    archive.set_preserve_mtime(false);
    let (mut bytes, mut unpacked) = (0, Unpacked::default());
    for (count, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        bytes += entry.size();
        if bytes > MAX_BYTES || count > MAX_ENTRIES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            let mut text = String::new();
            (&mut entry).take(MAX_HEADER).read_to_string(&mut text)?;
            unpacked.commit =
                text.lines().find_map(|line| line.split_once(" comment=")).map(|(_, id)| id.to_owned());
        }
        // Nothing is written outside the directory, whatever names the commit's files have.
        if kind.is_file() || kind.is_dir() || kind.is_symlink() {
            unpacked.time = unpacked.time.or_else(|| entry.header().mtime().ok());
            if !entry.unpack_in(into)? {
                return Err(io::Error::other("the commit has a file whose path leads outside of it"));
            }
        }
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// An archive with one entry of this path, kind and mode.
    fn archive(path: &str, kind: tar::EntryType, mode: u32, target: &str) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        if !target.is_empty() {
            header.set_link_name(target).expect("short");
        }
        header.set_size(u64::from(kind.is_file()));
        header.set_mode(mode);
        header.set_mtime(1_000_000_000);
        header.set_entry_type(kind);
        header.set_cksum();
        builder.append(&header, if kind.is_file() { &b"x"[..] } else { &[] }).expect("appended");
        builder.into_inner().expect("finished")
    }

    #[test]
    fn nothing_is_unpacked_outside() {
        let dir = tempfile::tempdir().expect("a directory");
        let into = dir.path().join("into");
        fs::create_dir_all(&into).expect("made");
        let check = |path: &str, is_refused: bool| {
            let archive = archive(path, tar::EntryType::Regular, 0o644, "");
            assert_eq!(unpack(&*archive, &into).is_err(), is_refused, "{path}");
            assert!(!dir.path().join("x").exists(), "{path}");
        };
        check("a/x", false);
        check("../x", true);
        check("a/../../x", true);
        // Not through a link that it brings, either.
        let link = archive("out", tar::EntryType::Symlink, 0o777, "..");
        unpack(&*link, &into).expect("a link may lead anywhere");
        check("out/x", true);
        // Other kinds are left out.
        for kind in [tar::EntryType::Fifo, tar::EntryType::Link, tar::EntryType::Char] {
            unpack(&*archive("special", kind, 0o644, "a/x"), &into).expect("left out");
            assert!(into.join("special").symlink_metadata().is_err(), "{kind:?}");
        }
    }

    #[test]
    fn files_have_the_same_permissions_from_every_host() {
        let dir = tempfile::tempdir().expect("a directory");
        for (mode, expect) in [(0o664, 0o644), (0o775, 0o755), (0o644, 0o644)] {
            let unpacked =
                unpack(&*archive("file", tar::EntryType::Regular, mode, ""), dir.path()).expect("unpacked");
            assert_eq!(unpacked.time, Some(1_000_000_000));
            let found = fs::metadata(dir.path().join("file")).expect("it is there").permissions().mode();
            assert_eq!(found & 0o777, expect, "{mode:o}");
        }
    }
}
