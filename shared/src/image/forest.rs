//! The symlink forest: what makes `/bin/git` of `/nix/store/…-git/bin/git`, and the few real files that a
//! container needs around it.
//!
//! It is what Nix's `builtin:buildenv` makes of the same packages, which is what `nix-env` shows its users:
//! a directory that only one package has is a single symlink, one that several have is real and merged, and a
//! symlink to a directory counts as that directory. A test builds the same packages with the real one, and has the
//! table of intended differences. These are the ones that matter:
//!
//! - Directories that people add to are real, so that derived images can add to them: `base::is_real` has which.
//! - Where two packages have the same file, the first one's is kept and the other is reported, also where
//!   `buildenv` would end.
//! - A symlink that leads nowhere is kept, unless another package has something there.

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

/// A package's contribution: where it is, and what is in it.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    /// An output, which is a root of the listing.
    pub path: &'a StorePath,
    /// The files of its package.
    pub listing: &'a Listing,
}

/// Something that one package offered and did not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Where, from the root, lossily as text.
    pub path: String,
    /// Whose entry was left out.
    pub dropped: StorePath,
}

/// The top layer's entries and what did not fit in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forest {
    /// Sorted by path, every directory before what is in it.
    pub entries: Vec<Entry>,
    /// What was left out, sorted by path.
    pub conflicts: Vec<Conflict>,
    /// The symlinks that lead nowhere, sorted.
    dangling: Vec<ImagePath>,
}

/// Why packages have no forest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForestError {
    /// The names of its entries, or their targets, would take more memory than there is at the edge.
    #[error(
        "these packages have directories in common that hold more files, with longer names, than an image can show"
    )]
    TooLarge,
    /// A path, or the target of a symlink, would be longer than Linux allows.
    #[error("these packages have directories in common that are nested deeper than Linux allows")]
    TooDeep,
}

impl Forest {
    /// Where `cacert` puts the bundle of certificates, without leading slash.
    pub const CA_BUNDLE: &str = base::CA_BUNDLE;
    /// The home of [`USER_ID`], as `/etc/passwd` has it.
    pub const USER_HOME: &str = "/home/user";

    /// The forest of these trees, earlier ones first where they conflict, and of what they propagate.
    ///
    /// # Errors
    /// When merging them takes more than [`ForestError`] says. That depends on the arguments alone.
    pub fn new(trees: &[Tree<'_>], fixtures: Fixtures<'_>) -> Result<Self, ForestError> {
        let mut skeleton = Skeleton::default();
        let has_ca_bundle = trees.iter().any(|tree| tree.has(Self::CA_BUNDLE));
        fixtures.lay(&mut skeleton, has_ca_bundle);
        let conflicts = merge::merge(&mut skeleton, &propagated::with_propagated(trees))?;
        fixtures.complete(&mut skeleton, has_ca_bundle);
        let (entries, dangling) = skeleton.flatten();
        Ok(Self { entries, conflicts, dangling })
    }

    /// Whether something is at this path (no leading slash) that is not a symlink to nowhere.
    pub fn has(&self, path: &str) -> bool {
        ImagePath::parse(format!("/{path}")).is_ok_and(|path| {
            self.entries.binary_search_by(|entry| entry.path.cmp(&path)).is_ok()
                && self.dangling.binary_search(&path).is_err()
        })
    }
}

impl Tree<'_> {
    /// The directory that the output is, or is a link to; none where it is a file.
    fn directory(&self) -> Option<u32> {
        let root = self.listing.roots().iter().find(|root| root.path == *self.path)?;
        self.listing.directory_of(root.node)
    }

    /// Whether the output has a file or directory at this path (no leading slash); symlinks to directories are
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
