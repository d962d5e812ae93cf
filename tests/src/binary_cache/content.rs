//! Directories that are binary caches, as `nix copy` writes them.

use crate::{
    nix, package_set,
    program::{Program, cached},
};
use std::fmt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How the contents of store paths are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As most of cache.nixos.org is.
    Xz,
    /// As newer caches are.
    Zstd,
    /// As old caches are.
    Bzip2,
    /// Not at all.
    None,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::None => "none",
        })
    }
}

/// A binary cache in a directory.
pub struct CacheDir {
    path: PathBuf,
    key: String,
    /// The outputs that it begins at.
    outputs: Vec<String>,
    /// What is removed with it. None for one of `setup/binary-cache`.
    temporary: Option<TempDir>,
}

impl CacheDir {
    /// The cache of the bundled package set. It has xz and zstd only, and must not be changed.
    ///
    /// # Panics
    /// If `setup/binary-cache` has not made it.
    pub fn bundled(compression: Compression) -> Self {
        let set = package_set::bundled().file_name().expect("a name").to_str().expect("UTF-8");
        let version = set.trim_start_matches("package-set-");
        let file =
            |name| cached(&format!("binary-cache-{compression}-{version}/{name}"), "setup/binary-cache");
        let read = |name| std::fs::read_to_string(file(name)).expect("the file can be read");
        let path = file("paths").with_file_name("cache");
        Self {
            path,
            key: read("key.public").trim().to_owned(),
            outputs: read("paths").lines().map(str::to_owned).collect(),
            temporary: None,
        }
    }

    /// A new cache with the closures of these store paths, signed with a key of its own, `NAME:…`.
    ///
    /// # Panics
    /// If Nix cannot make it.
    pub fn new(compression: Compression, name: &str, outputs: &[String]) -> Self {
        let temporary = TempDir::with_prefix("firn-test-cache-").expect("a temporary directory");
        let path = |name: &str| temporary.path().join(name);
        let [secret, public] = ["key.secret", "key.public"].map(path);
        let make = nix::program("nix-store").args(["--generate-binary-cache-key", name]);
        make.args([&secret, &public]).run().succeeded();
        let key = std::fs::read_to_string(&public).expect("the key").trim().to_owned();
        let url = format!(
            "file://{}?compression={compression}&secret-key={}",
            path("cache").display(),
            secret.display()
        );
        nix::program("nix").args(["copy", "--to", &url]).args(outputs).run().succeeded();
        Self { path: path("cache"), key, outputs: outputs.to_vec(), temporary: Some(temporary) }
    }

    /// A cache that has nothing.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn empty() -> Self {
        let temporary = TempDir::with_prefix("firn-test-cache-").expect("a temporary directory");
        let path = temporary.path().to_owned();
        std::fs::write(path.join("nix-cache-info"), "StoreDir: /nix/store\n").expect("a file");
        Self { path, key: String::new(), outputs: Vec::new(), temporary: Some(temporary) }
    }

    /// A new cache with what another one has, which may be changed. Its files are hard links.
    ///
    /// # Panics
    /// If it cannot be copied.
    pub fn copy_of(other: &Self) -> Self {
        let temporary = TempDir::with_prefix("firn-test-cache-").expect("a temporary directory");
        let path = temporary.path().join("cache");
        Program::new("cp").args(["--recursive", "--link"]).args([&other.path, &path]).run().succeeded();
        Self { path, key: other.key.clone(), outputs: other.outputs.clone(), temporary: Some(temporary) }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The public key of its signatures.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The outputs that it begins at, whole store paths.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// The file that describes a store path.
    pub fn narinfo(&self, store_path: &str) -> PathBuf {
        self.path.join(format!("{}.narinfo", hash_of(store_path)))
    }

    /// A field of the file that describes a store path.
    ///
    /// # Panics
    /// If the cache does not have the path.
    pub fn field(&self, store_path: &str, name: &str) -> String {
        let text = std::fs::read_to_string(self.narinfo(store_path)).expect("the cache has the path");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_else(|| panic!("{store_path} has no {name}:\n{text}")).to_owned()
    }

    /// The file with the contents of a store path.
    ///
    /// # Panics
    /// If the cache does not have the path.
    pub fn nar(&self, store_path: &str) -> PathBuf {
        self.path.join(self.field(store_path, "URL"))
    }

    /// Replaces a file of the cache. Other caches that share the file keep theirs.
    ///
    /// # Panics
    /// If the cache must not be changed.
    pub fn rewrite(&self, file: &Path, content: &[u8]) {
        assert!(self.temporary.is_some(), "the bundled cache is shared by all tests");
        let part = file.with_extension("part");
        std::fs::write(&part, content).expect("the file can be written");
        std::fs::rename(&part, file).expect("the file can be put in place");
    }

    /// Removes a store path from the cache, so that it answers 404.
    ///
    /// # Panics
    /// If the cache must not be changed, or does not have the path.
    pub fn forget(&self, store_path: &str) {
        assert!(self.temporary.is_some(), "the bundled cache is shared by all tests");
        std::fs::remove_file(self.narinfo(store_path)).expect("the cache has the path");
    }
}

/// The hash in a store path, `/nix/store/HASH-NAME`.
fn hash_of(store_path: &str) -> &str {
    let base = store_path.rsplit('/').next().unwrap_or_default();
    base.split('-').next().unwrap_or_default()
}
