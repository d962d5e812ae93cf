//! The contents of a directory, for comparing a store path with what was unpacked from an image.

use crate::layer::sha256;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, read_link};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Everything below a path, by relative path. The path itself is the empty path.
pub type Tree = BTreeMap<PathBuf, Node>;

/// One file of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Its permissions.
    Directory(u32),
    /// Permissions, size and digest.
    File(u32, u64, String),
    /// Its target.
    Symlink(Vec<u8>),
}

impl Node {
    /// The file at a path.
    ///
    /// # Errors
    /// If it cannot be read, or is another kind of file.
    pub fn at(path: &Path) -> io::Result<Self> {
        let meta = path.symlink_metadata()?;
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            Ok(Self::Directory(mode))
        } else if meta.is_symlink() {
            Ok(Self::Symlink(read_link(path)?.into_os_string().into_vec()))
        } else if meta.is_file() {
            Ok(Self::File(mode, meta.size(), sha256(File::open(path)?)?))
        } else {
            Err(io::Error::other(format!("{}: neither file, directory nor symlink", path.display())))
        }
    }
}

/// Reads everything below a path.
///
/// # Panics
/// If something cannot be read.
pub fn read(place: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut next = vec![PathBuf::new()];
    while let Some(relative) = next.pop() {
        // Joining an empty path would append a slash, and a file with a slash does not exist.
        let path = if relative.as_os_str().is_empty() { place.to_owned() } else { place.join(&relative) };
        let node = Node::at(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if matches!(node, Node::Directory(_)) {
            let names =
                path.read_dir().expect("a directory").map(|entry| entry.expect("an entry").file_name());
            next.extend(names.map(|name| relative.join(name)));
        }
        tree.insert(relative, node);
    }
    tree
}

/// Fails with the differences between two trees, if there are any.
///
/// # Panics
/// If there are any.
pub fn assert_same(what: &str, expect: &Tree, actual: &Tree) {
    let paths = expect.keys().chain(actual.keys().filter(|path| !expect.contains_key(*path)));
    let differences: Vec<_> = paths
        .filter(|path| expect.get(*path) != actual.get(*path))
        .map(|path| format!("{path:?}: {:?}, not {:?}", actual.get(path), expect.get(path)))
        .collect();
    let shown = differences.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{what}: {} differences:\n{shown}", differences.len());
}

/// The target of a path in an unpacked image, as a process inside would see it. None if there is no such file.
pub fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    const MAX_LINKS: usize = 40;
    let mut links = 0;
    let mut at = PathBuf::new();
    let mut rest: Vec<Vec<u8>> = components(path);
    while let Some(component) = rest.pop() {
        if component == b".." {
            at.pop();
            continue;
        }
        let next = at.join(OsStr::from_bytes(&component));
        let meta = root.join(&next).symlink_metadata().ok()?;
        if !meta.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return None;
        }
        let target = read_link(root.join(&next)).ok()?;
        if target.is_absolute() {
            at = PathBuf::new();
        }
        rest.extend(components(&target));
    }
    Some(root.join(at))
}

/// The names in a path, last first.
fn components(path: &Path) -> Vec<Vec<u8>> {
    let named = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_bytes().to_vec()),
        Component::ParentDir => Some(b"..".to_vec()),
        _ => None,
    });
    let mut components: Vec<_> = named.collect();
    components.reverse();
    components
}
