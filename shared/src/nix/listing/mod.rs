//! Listings: the files that a package puts at the root of an image. A listing has the directories of the package's
//! outputs, and the directories to which symlinks in them lead.
//!
//! A listing is a graph. It has each directory once, however many links lead to it, and refers to it by index. So a
//! link costs one entry, whatever it leads to. A loop of links is just a cycle in the graph. Reading a listing needs
//! no recursion, however deep the directories are nested.

pub mod byte_text;
mod file_name;

pub use file_name::{FileName, FileNameError};

use crate::StorePath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The files of a package.
///
/// Invariant: every index is that of a directory or a target of the same listing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Listing {
    directories: Vec<Directory>,
    targets: Vec<Target>,
    roots: Vec<Root>,
}

/// A directory's entries, by name.
pub type Directory = BTreeMap<FileName, Node>;

/// One entry of a directory.
///
/// A listing has many nodes, so a node is serialised as a number: 0 for a file, -1 for a dangling link, `index + 1`
/// for a directory, `-2 - index` for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub enum Node {
    /// A directory, by its index in the listing.
    Directory(u32),
    /// A symlink to a directory in the package's closure, by the index of its [`Target`].
    Link(u32),
    /// A file, a symlink to a file, or a symlink to a path outside the Nix store, which may exist in a container.
    File,
    /// A symlink to a path that does not exist in the package's closure, or a loop of symlinks.
    Dangling,
}

/// A directory to which symlinks lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The directory, by its index in the listing.
    pub directory: u32,
    /// The store path that contains the directory.
    pub path: StorePath,
    /// The names on the way from the store path to the directory. None of them is a symlink.
    pub below: Vec<FileName>,
}

/// A store path whose files appear at the root of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The store path.
    pub path: StorePath,
    /// The file at the store path. Only a directory, or a link to one, contributes files.
    pub node: Node,
    /// The store paths in `nix-support/propagated-user-env-packages`, which users of this path also need. Each is a
    /// root of the same listing.
    pub propagated: Vec<StorePath>,
}

/// An index in the listing is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an index in a listing is out of range")]
pub struct ListingError;

/// A listing as it is stored. Its indices have not been checked.
#[derive(Serialize, Deserialize)]
struct Unchecked {
    directories: Vec<Directory>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    targets: Vec<Target>,
    roots: Vec<Root>,
}

impl Listing {
    /// A listing of these parts. The first roots are the package's outputs, in order.
    ///
    /// # Errors
    /// If an index is out of range.
    pub fn new(
        directories: Vec<Directory>,
        targets: Vec<Target>,
        roots: Vec<Root>,
    ) -> Result<Self, ListingError> {
        let is_directory = |index: u32| (index as usize) < directories.len();
        let is_sound = |node: &Node| match *node {
            Node::Directory(index) => is_directory(index),
            Node::Link(index) => (index as usize) < targets.len(),
            Node::File | Node::Dangling => true,
        };
        let sound = targets.iter().all(|target| is_directory(target.directory))
            && directories.iter().flat_map(BTreeMap::values).all(is_sound)
            && roots.iter().all(|root| is_sound(&root.node));
        if sound { Ok(Self { directories, targets, roots }) } else { Err(ListingError) }
    }

    /// All directories.
    pub fn directories(&self) -> &[Directory] {
        &self.directories
    }

    /// The directories to which links lead.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The package's outputs, then the store paths that they propagate.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The directory with this index.
    ///
    /// # Panics
    /// If the index is from another listing.
    pub fn directory(&self, index: u32) -> &Directory {
        &self.directories[index as usize]
    }

    /// The target with this index.
    ///
    /// # Panics
    /// If the index is from another listing.
    pub fn target(&self, index: u32) -> &Target {
        &self.targets[index as usize]
    }

    /// The index of the directory that a node is, or leads to. `None` if there is none.
    pub fn directory_of(&self, node: Node) -> Option<u32> {
        match node {
            Node::Directory(index) => Some(index),
            Node::Link(index) => Some(self.target(index).directory),
            Node::File | Node::Dangling => None,
        }
    }
}

impl Node {
    /// Whether the node is a dangling link.
    pub fn is_dangling(self) -> bool {
        self == Self::Dangling
    }
}

impl TryFrom<Unchecked> for Listing {
    type Error = ListingError;

    fn try_from(Unchecked { directories, targets, roots }: Unchecked) -> Result<Self, Self::Error> {
        Self::new(directories, targets, roots)
    }
}

impl From<Listing> for Unchecked {
    fn from(Listing { directories, targets, roots }: Listing) -> Self {
        Self { directories, targets, roots }
    }
}

impl From<Node> for i64 {
    fn from(node: Node) -> Self {
        match node {
            Node::File => 0,
            Node::Dangling => -1,
            Node::Directory(index) => Self::from(index) + 1,
            Node::Link(index) => -2 - Self::from(index),
        }
    }
}

impl TryFrom<i64> for Node {
    type Error = ListingError;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        let index = |number: i64| u32::try_from(number).map_err(|_| ListingError);
        match number {
            0 => Ok(Self::File),
            -1 => Ok(Self::Dangling),
            1.. => index(number - 1).map(Self::Directory),
            _ => index(-2 - number.max(-1 << 40)).map(Self::Link),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
