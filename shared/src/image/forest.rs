//! The symlink forest: the symlinks from the root of an image into the Nix store, such as `/bin/git`, and the few real
//! files that a container needs.
//!
//! The forest is what Nix's `builtin:buildenv` (which `nix-env` uses) makes of the same packages. A directory that only
//! one package has is a single symlink. A directory that several packages have is real, and its contents are merged. A
//! symlink to a directory counts as that directory. A test compares the forest with the output of `builtin:buildenv`
//! and lists the intended differences. The important ones are:
//!
//! - Directories to which people add files are real, so that derived images can add to them (`base::is_real`).
//! - If two packages have the same file, the first one's is kept and the other is reported. `buildenv` fails for some
//!   of
//!   these conflicts.
//! - A dangling symlink is kept, unless another package has something at the same path.

mod base;
mod merge;
mod propagated;
mod skeleton;

pub use base::{Fixtures, USER_ID};

use crate::{
    StorePath,
    archive::{Entry, ImagePath},
    nix::listing::{FileName, Listing},
};
use skeleton::Skeleton;

/// A package output that contributes files.
#[derive(Debug, Clone, Copy)]
pub struct PackageFiles<'a> {
    /// The output's store path, which is a root of the listing.
    pub path: &'a StorePath,
    /// The listing of the output's package.
    pub listing: &'a Listing,
}

/// An entry of a package that is left out, because another package has an entry at the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The path from the root of the image. Bytes that are not UTF-8 are replaced.
    pub path: String,
    /// The store path whose entry is left out.
    pub dropped: StorePath,
}

/// The entries of the symlink layer, and the conflicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forest {
    /// The entries, sorted by path, so that every directory comes before its contents.
    pub entries: Vec<Entry>,
    /// The entries that are left out, sorted by path.
    pub conflicts: Vec<Conflict>,
    /// The dangling symlinks, sorted.
    dangling: Vec<ImagePath>,
}

/// Why packages cannot be merged into a forest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForestError {
    /// The names of the entries and their targets would take more memory than the edge has.
    #[error(
        "these packages have too many files, or files with too long names, in directories that they share"
    )]
    TooLarge,
    /// A path, or the target of a symlink, would be longer than Linux allows.
    #[error("these packages share directories that are nested deeper than Linux allows")]
    TooDeep,
}

impl Forest {
    /// The path of the CA bundle in `cacert`, without leading slash.
    pub const CA_BUNDLE: &str = base::CA_BUNDLE;
    /// The home directory of [`USER_ID`] in `/etc/passwd`.
    pub const USER_HOME: &str = "/home/user";

    /// The forest of these trees and the packages that they propagate. If trees conflict, the earlier one wins.
    ///
    /// # Errors
    /// If the merged trees exceed a limit of [`ForestError`]. The result depends only on the arguments.
    pub fn new(trees: &[PackageFiles<'_>], fixtures: Fixtures<'_>) -> Result<Self, ForestError> {
        let mut skeleton = Skeleton::default();
        let has_ca_bundle = trees.iter().any(|tree| tree.has(Self::CA_BUNDLE));
        fixtures.lay(&mut skeleton, has_ca_bundle);
        let conflicts = merge::merge(&mut skeleton, &propagated::with_propagated(trees))?;
        fixtures.complete(&mut skeleton, has_ca_bundle);
        let (entries, dangling) = skeleton.flatten();
        Ok(Self { entries, conflicts, dangling })
    }

    /// Whether the forest has an entry at this path (no leading slash) other than a dangling symlink.
    pub fn has(&self, path: &str) -> bool {
        ImagePath::parse(format!("/{path}")).is_ok_and(|path| {
            self.entries.binary_search_by(|entry| entry.path.cmp(&path)).is_ok()
                && self.dangling.binary_search(&path).is_err()
        })
    }
}

impl PackageFiles<'_> {
    /// The directory that the output is, or to which it is a link. `None` if it is a file.
    fn directory(&self) -> Option<u32> {
        let root = self.listing.roots().iter().find(|root| root.path == *self.path)?;
        self.listing.directory_of(root.node)
    }

    /// Whether the output has a file or directory at this path (no leading slash). Symlinks to directories are
    /// followed.
    fn has(&self, path: &str) -> bool {
        let (parents, last) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = self.directory();
        for parent in parents.split('/').filter(|parent| !parent.is_empty()) {
            at = at
                .and_then(|at| self.listing.directory(at).get(&name(parent)))
                .and_then(|node| self.listing.directory_of(*node));
        }
        let found = at.and_then(|at| self.listing.directory(at).get(&name(last)));
        found.is_some_and(|node| !node.is_dangling())
    }
}

fn name(text: &str) -> FileName {
    FileName::new(text.as_bytes()).expect("a constant file name")
}

fn join(parent: &[u8], name: &FileName) -> Vec<u8> {
    [parent, b"/", name.as_bytes()].concat()
}

#[cfg(test)]
mod tests;
