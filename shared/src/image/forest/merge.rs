//! Merges the directories of packages like `createLinks` of Nix's `builtin:buildenv`
//! (`src/libstore/builtins/buildenv.cc`), but processes each directory of all packages at once.

use super::{
    Conflict, ForestError, PackageFiles, base, join,
    skeleton::{Occupant, ROOT, Skeleton},
};
use crate::{
    StorePath,
    archive::{Content, Permissions},
    nix::listing::{FileName, Listing, Node},
};
use std::collections::BTreeMap;

/// Names at the root that belong to the image or the container runtime.
const RESERVED: [&[u8]; 5] = [b"nix", b"proc", b"sys", b"dev", b"tmp"];

/// Names that are left out, as `buildenv` does. The first two are only for Nix's builders. Every Perl package has a
/// `perllocal.pod` that describes only the package itself. (`info/dir` is left out for the same reason.)
const LEFT_OUT: [&[u8]; 3] = [b"nix-support", b"propagated-build-inputs", b"perllocal.pod"];

/// The prefix of whiteouts. Files with such names tell the client that unpacks the layer to delete files of lower
/// layers (OCI image spec, "layer.md").
const WHITEOUT: &[u8] = b".wh.";

/// The greatest length of a path and of a symlink's target on Linux, in bytes.
const MAX_PATH: usize = 4095;

/// The greatest total size of the names and targets in merged directories, in bytes. The edge has 128 MB of memory.
/// 200,000 merged files with names of usual length reach this limit.
const MAX_BYTES: usize = 32 << 20;

/// One package's directory among those that are merged into one.
#[derive(Debug, Clone)]
struct Offer<'a> {
    owner: &'a StorePath,
    /// The index of the tree that the directory is from.
    tree: usize,
    listing: &'a Listing,
    directory: u32,
    /// The path by which the merge reached the directory.
    source: Vec<u8>,
    /// The directory's path without symlinks.
    real: Vec<u8>,
}

/// A directory to merge.
struct Task<'a> {
    into: usize,
    /// The path in the image, with a slash before each component; empty for the root.
    at: Vec<u8>,
    offers: Vec<Offer<'a>>,
    /// The index of this directory in [`Levels`].
    level: usize,
}

/// For each merged directory of the image, which directories of packages are merged there.
///
/// If the same directories are merged again further down, symlinks lead back up, and the merge would never end.
#[derive(Default)]
struct Levels(Vec<Level>);

/// The index of the level above, and the merged directories as pairs of tree and directory.
type Level = (Option<usize>, Vec<(usize, u32)>);

/// The rest of [`MAX_BYTES`].
struct Budget(usize);

/// Merges trees into a skeleton and returns the entries that are left out. If trees conflict, the earlier one wins;
/// entries that are in the skeleton already win over all trees.
pub(super) fn merge(into: &mut Skeleton, trees: &[PackageFiles<'_>]) -> Result<Vec<Conflict>, ForestError> {
    let offers = trees.iter().enumerate().filter_map(|(tree, PackageFiles { path, listing })| {
        let root = listing.roots().iter().find(|root| root.path == **path)?;
        let source = path.as_str().as_bytes().to_vec();
        let real = real(listing, root.node, || source.clone());
        Some(Offer { owner: path, tree, listing, directory: listing.directory_of(root.node)?, source, real })
    });
    let offers: Vec<_> = offers.collect();
    let mut levels = Levels::default();
    let level = levels.enter(None, &offers).expect("there is nothing above");
    let mut merging = Merging { into, conflicts: Vec::new(), levels, budget: Budget(MAX_BYTES) };
    let mut tasks = vec![Task { into: ROOT, at: Vec::new(), offers, level }];
    while let Some(task) = tasks.pop() {
        merging.directory(&task, &mut tasks)?;
    }
    let mut conflicts = merging.conflicts;
    // Sorts by component, so that a directory comes before its contents.
    conflicts.sort_by(|(a, _), (b, _)| a.split(is_slash).cmp(b.split(is_slash)));
    let conflicts = conflicts.into_iter().map(|(path, dropped)| Conflict {
        path: String::from_utf8_lossy(&path).into_owned(),
        dropped: dropped.clone(),
    });
    Ok(conflicts.collect())
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

/// The path without symlinks of the directory that a node is, or leads to. `own` returns the path of the node itself.
fn real(listing: &Listing, node: Node, own: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    match node {
        Node::Link(index) => {
            let target = listing.target(index);
            let store_path = target.path.as_str().as_bytes().to_vec();
            target.below.iter().fold(store_path, |path, name| join(&path, name))
        }
        Node::Directory(_) | Node::File | Node::Dangling => own(),
    }
}

/// The state of a merge.
struct Merging<'a, 'into> {
    into: &'into mut Skeleton,
    /// The paths of entries that are left out, and the store paths that they are from.
    conflicts: Vec<(Vec<u8>, &'a StorePath)>,
    levels: Levels,
    budget: Budget,
}

impl<'a> Merging<'a, '_> {
    /// Merges one directory. Directories in it that have to be merged are added to `tasks`.
    fn directory(&mut self, task: &Task<'a>, tasks: &mut Vec<Task<'a>>) -> Result<(), ForestError> {
        let mut by_name: BTreeMap<&FileName, Vec<(&Offer<'a>, Node)>> = BTreeMap::new();
        for offer in &task.offers {
            for (name, node) in offer.listing.directory(offer.directory) {
                self.budget.spend(task.at.len(), offer.source.len(), name)?;
                by_name.entry(name).or_default().push((offer, *node));
            }
        }
        for (name, offered) in by_name {
            tasks.extend(self.name(task, name, offered)?);
        }
        Ok(())
    }

    /// Adds the entry for one name. If it is a directory that has to be merged, returns a task for it.
    fn name(
        &mut self,
        task: &Task<'a>,
        name: &FileName,
        mut offered: Vec<(&Offer<'a>, Node)>,
    ) -> Result<Option<Task<'a>>, ForestError> {
        let path = join(&task.at, name);
        let bytes = name.as_bytes();
        let is_reserved = task.at.is_empty() && RESERVED.contains(&bytes);
        if is_reserved || bytes.starts_with(WHITEOUT) {
            self.drop(&path, offered.into_iter().map(|(offer, _)| offer));
            return Ok(None);
        }
        if LEFT_OUT.contains(&bytes) || path.ends_with(b"/info/dir") {
            // This is not a conflict.
            return Ok(None);
        }
        let own = match self.into.get(task.into, name) {
            Some(Occupant::Directory(_, index)) => Some(*index),
            Some(Occupant::Leaf(_) | Occupant::Dangling(_)) => {
                self.drop(&path, offered.into_iter().map(|(offer, _)| offer));
                return Ok(None);
            }
            None => None,
        };
        // Dangling symlinks give way to other entries.
        if own.is_some() || offered.iter().any(|(_, node)| !node.is_dangling()) {
            let (dangling, rest): (Vec<_>, Vec<_>) =
                offered.into_iter().partition(|(_, node)| node.is_dangling());
            self.drop(&path, dangling.into_iter().map(|(offer, _)| offer));
            offered = rest;
        }
        let Some(((first, node), others)) = offered.split_first() else { return Ok(None) };
        if own.is_none() && first.listing.directory_of(*node).is_none() {
            self.drop(&path, different(first, others.iter().map(|(offer, _)| *offer)));
            self.link(task, first, name, node.is_dangling())?;
            return Ok(None);
        }

        let is_directory = |(offer, node): &(&Offer<'a>, Node)| offer.listing.directory_of(*node).is_some();
        let (directories, files): (Vec<_>, Vec<_>) = offered.iter().copied().partition(is_directory);
        self.drop(&path, files.into_iter().map(|(offer, _)| offer));
        let mut below: Vec<_> =
            directories.iter().filter_map(|(offer, node)| offer.enter(name, *node)).collect();
        if below.is_empty() {
            return Ok(None);
        }
        if below.len() == 1 && own.is_none() && !base::is_real(&path) {
            self.link(task, directories[0].0, name, false)?;
            return Ok(None);
        }
        let Some(level) = self.levels.enter(Some(task.level), &below) else {
            // The same directories are merged further up, so this is a loop. A symlink takes the place of the
            // directory.
            let mut offers = directories.into_iter().map(|(offer, _)| offer);
            if let (None, Some(first)) = (own, offers.next()) {
                self.link(task, first, name, false)?;
                self.drop(&path, different(first, offers));
            }
            return Ok(None);
        };
        if let [first, _, ..] = &mut below[..] {
            // Here `buildenv` replaces the first package's symlink by a directory, and uses the resolved path from then
            // on.
            first.source.clone_from(&first.real);
        }
        let into = self.into.directory(task.into, name, Permissions::DIRECTORY);
        let into = into.expect("the name is free or a directory");
        Ok(Some(Task { into, at: path, offers: below, level }))
    }

    /// Records entries that are left out.
    fn drop<'o>(&mut self, path: &[u8], offers: impl Iterator<Item = &'o Offer<'a>>)
    where
        'a: 'o,
    {
        self.conflicts.extend(offers.map(|offer| (path.to_vec(), offer.owner)));
    }

    /// Adds a symlink to the entry with this name in an offered directory.
    fn link(
        &mut self,
        task: &Task<'a>,
        offer: &Offer<'a>,
        name: &FileName,
        is_dangling: bool,
    ) -> Result<(), ForestError> {
        let target = join(&offer.source, name);
        if target.len() > MAX_PATH {
            return Err(ForestError::TooDeep);
        }
        let link = Content::Symlink(target);
        let place = if is_dangling { Occupant::Dangling(link) } else { Occupant::Leaf(link) };
        self.into.put(task.into, name, place);
        Ok(())
    }
}

/// The offers among `others` that differ from the first. An offer of the same directory by another path is left out.
fn different<'o, 'a>(
    first: &'o Offer<'a>,
    others: impl Iterator<Item = &'o Offer<'a>>,
) -> impl Iterator<Item = &'o Offer<'a>> {
    others.filter(|other| other.real != first.real)
}

impl<'a> Offer<'a> {
    /// The offer of the directory that a node of this one is, or leads to. `None` if there is none.
    fn enter(&self, name: &FileName, node: Node) -> Option<Self> {
        let Self { owner, tree, listing, .. } = *self;
        let directory = listing.directory_of(node)?;
        let real = real(listing, node, || join(&self.real, name));
        Some(Self { owner, tree, listing, directory, source: join(&self.source, name), real })
    }
}

impl Levels {
    /// Adds a level below another. `None` if the same directories are already merged at a level above.
    fn enter(&mut self, above: Option<usize>, offers: &[Offer<'_>]) -> Option<usize> {
        let merged: Vec<_> = offers.iter().map(|offer| (offer.tree, offer.directory)).collect();
        let mut next = above;
        while let Some(level) = next {
            let (above, other) = &self.0[level];
            if *other == merged {
                return None;
            }
            next = *above;
        }
        self.0.push((above, merged));
        Some(self.0.len() - 1)
    }
}

impl Budget {
    fn spend(&mut self, at: usize, source: usize, name: &FileName) -> Result<(), ForestError> {
        /// The memory that an entry takes in addition to its names, in bytes.
        const ENTRY: usize = 64;
        if at + 1 + name.as_bytes().len() > MAX_PATH {
            return Err(ForestError::TooDeep);
        }
        let bytes = at + source + 2 * name.as_bytes().len() + ENTRY;
        self.0 = self.0.checked_sub(bytes).ok_or(ForestError::TooLarge)?;
        Ok(())
    }
}
