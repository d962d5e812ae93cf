//! A digest over everything in a directory: names, kinds and contents.
//!
//! A file is read once. Its digest is remembered together with its size, times and inode, so computing the digest
//! again costs one `lstat` per file. `.git` is left out, because it changes without the package set changing.

use firn_shared::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// If this is the same, the file has not changed.
type Stamp = (u64, u64, i64, i64, i64, i64);

/// Digests of files, each with the stamp that the file had.
type Files = HashMap<PathBuf, (Stamp, Digest)>;

/// The digests of files that were read before.
#[derive(Debug, Default)]
pub(super) struct PathContents {
    files: Files,
}

fn stamp(meta: &Metadata) -> Stamp {
    (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
}

impl PathContents {
    /// The digest of a file or directory.
    pub(super) fn digest(&mut self, path: &Path) -> io::Result<Digest> {
        // The path itself may be a symbolic link to the current package set.
        let path = path.canonicalize()?;
        let mut hasher = Sha256::new();
        let mut seen = Files::new();
        self.add(&path, &mut hasher, &mut seen)?;
        self.files = seen;
        Ok(Digest::from_hasher(hasher))
    }

    fn add(&self, path: &Path, hasher: &mut Sha256, seen: &mut Files) -> io::Result<()> {
        let meta = path.symlink_metadata()?;
        if meta.is_dir() {
            let mut names: Vec<_> =
                std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
            names.retain(|name| name != ".git");
            names.sort_unstable();
            field(hasher, b"directory");
            field(hasher, &(names.len() as u64).to_le_bytes());
            for name in names {
                field(hasher, name.as_bytes());
                self.add(&path.join(&name), hasher, seen)?;
            }
        } else if meta.is_symlink() {
            field(hasher, b"symlink");
            field(hasher, std::fs::read_link(path)?.as_os_str().as_bytes());
        } else if meta.is_file() {
            let stamp = stamp(&meta);
            let digest = match self.files.get(path) {
                Some((known, digest)) if *known == stamp => *digest,
                _ => {
                    let mut content = HashWriter(Sha256::new());
                    io::copy(&mut std::fs::File::open(path)?, &mut content)?;
                    Digest::from_hasher(content.0)
                }
            };
            seen.insert(path.to_owned(), (stamp, digest));
            field(hasher, b"file");
            field(hasher, &[u8::from(meta.mode() & 0o100 != 0)]);
            field(hasher, digest.as_bytes());
        }
        Ok(())
    }
}

fn field(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Hashes what `io::copy` writes, because sha2 no longer implements `Write`.
struct HashWriter(Sha256);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn changes_with_what_nix_could_see_and_with_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        let mut contents = PathContents::default();
        let mut digest = || contents.digest(root).expect("a digest");
        let mut last = digest();
        let mut changed = |what: &str, expect: bool| {
            let now = digest();
            assert_eq!(now != last, expect, "{what}");
            last = now;
        };
        changed("nothing", false);
        fs::write(root.join("default.nix"), "{}").expect("written");
        changed("a new file", true);
        changed("nothing again", false);
        fs::write(root.join("default.nix"), "[]").expect("written");
        changed("another content of the same size", true);
        fs::create_dir(root.join("empty")).expect("made");
        changed("an empty directory", true);
        std::os::unix::fs::symlink("default.nix", root.join("link")).expect("linked");
        changed("a symlink", true);
        fs::create_dir(root.join(".git")).expect("made");
        fs::write(root.join(".git/index"), "x").expect("written");
        changed("git's own files", false);
        fs::rename(root.join("empty"), root.join("other")).expect("renamed");
        changed("a new name", true);
        assert!(PathContents::default().digest(&root.join("missing")).is_err());
    }

    #[test]
    fn does_not_depend_on_where_it_is() {
        let (a, b) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
        for dir in [&a, &b] {
            fs::write(dir.path().join("default.nix"), "{}").expect("written");
        }
        let digest = |dir: &tempfile::TempDir| PathContents::default().digest(dir.path()).expect("a digest");
        assert_eq!(digest(&a), digest(&b));
    }
}
