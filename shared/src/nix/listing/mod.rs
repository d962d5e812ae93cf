//! What a package puts at the root of an image: the directories of its outputs, and those that symlinks in them
//! lead to.
//!
//! A listing is a graph. Each directory is in it once and is referred to by its index, however many links lead to
//! it. So a link costs one entry whatever it leads to, a loop of links is an edge like any other, and reading a
//! listing needs no recursion, however deep the directories are nested.

mod file_name;

pub use file_name::{FileName, FileNameError};

use crate::StorePath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The files of a package.
///
/// Invariant: every index leads to a directory or a target of the same listing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Listing {
    directories: Vec<Directory>,
    targets: Vec<Target>,
    roots: Vec<Root>,
}

/// A directory's entries by name.
pub type Directory = BTreeMap<FileName, Node>;

/// One entry of a directory.
///
/// A listing has many of them, so they are serialised as numbers: 0 is a file, -1 a dangling link, a directory is
/// its index and 1, a link its index subtracted from -2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub enum Node {
    /// A directory, by its index in the listing.
    Directory(u32),
    /// A symlink that leads to a directory of the package's closure, by the index of its [`Target`].
    Link(u32),
    /// Anything else: a file, or a symlink to a file or to something outside of the Nix store, which a container may
    /// have.
    File,
    /// A symlink that leads nowhere in an image: to a name that its closure does not have, or in a loop.
    Dangling,
}

/// Where links lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The directory, by its index in the listing.
    pub directory: u32,
    /// The store path that it lies in.
    pub path: StorePath,
    /// Where it lies there; no name of these is a symlink.
    pub below: Vec<FileName>,
}

/// A store path whose files are at the root of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The store path.
    pub path: StorePath,
    /// What it is. Only a directory, or a link to one, brings files.
    pub node: Node,
    /// The store paths that a user of this one also wants, from `nix-support/propagated-user-env-packages`. Each is a
    /// root of the same listing.
    pub propagated: Vec<StorePath>,
}

/// A listing with an index that leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry of a listing leads nowhere")]
pub struct ListingError;

/// A listing as it is stored.
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
    /// When an index leads nowhere.
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

    /// Where links lead.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The package's outputs, and then what they propagate.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// A directory of this listing.
    ///
    /// # Panics
    /// When the index is from another listing.
    pub fn directory(&self, index: u32) -> &Directory {
        &self.directories[index as usize]
    }

    /// The target of a link of this listing.
    ///
    /// # Panics
    /// When the index is from another listing.
    pub fn target(&self, index: u32) -> &Target {
        &self.targets[index as usize]
    }

    /// The directory that a node is or leads to.
    pub fn directory_of(&self, node: Node) -> Option<u32> {
        match node {
            Node::Directory(index) => Some(index),
            Node::Link(index) => Some(self.target(index).directory),
            Node::File | Node::Dangling => None,
        }
    }
}

impl Node {
    /// Whether it leads nowhere.
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
