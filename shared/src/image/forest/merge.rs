//! Merging the directories of packages, as `createLinks` of Nix's `builtin:buildenv` does
//! (`src/libstore/builtins/buildenv.cc`), but for the whole of a directory at once.

use super::{
    Conflict, ForestError, Tree, base, join,
    skeleton::{Place, ROOT, Skeleton},
};
use crate::{
    StorePath,
    archive::{Content, Permissions},
    nix::listing::{FileName, Listing, Node},
};
use std::collections::BTreeMap;

/// Names at the root that belong to the image or the container runtime.
const RESERVED: [&[u8]; 5] = [b"nix", b"proc", b"sys", b"dev", b"tmp"];

/// Names that `buildenv` leaves out too: the first two are for Nix's builders alone. Every Perl package has its own
/// `perllocal.pod`, about itself. (`info/dir` is like it.)
const LEFT_OUT: [&[u8]; 3] = [b"nix-support", b"propagated-build-inputs", b"perllocal.pod"];

/// How the names begin that delete files of lower layers, or say other things to the client that unpacks the layer (OCI
/// image spec, "layer.md").
const WHITEOUT: &[u8] = b".wh.";

/// The longest path and target that Linux knows, in bytes.
const MAX_PATH: usize = 4095;

/// How many bytes of names and targets packages may offer in the directories that are merged. The edge has
/// 128 MB of memory, and 200,000 merged files with names of usual length come to this.
const MAX_BYTES: usize = 32 << 20;

/// One package's part of a directory that is being merged.
#[derive(Debug, Clone)]
struct Offer<'a> {
    owner: &'a StorePath,
    /// Which of the trees it is from.
    tree: usize,
    listing: &'a Listing,
    directory: u32,
    /// The path by which the directory was found.
    source: Vec<u8>,
    /// The directory's path without symlinks.
    real: Vec<u8>,
}

/// A directory to merge.
struct Task<'a> {
    into: usize,
    /// Where, components joined by and beginning with slashes; empty for the root.
    at: Vec<u8>,
    offers: Vec<Offer<'a>>,
    /// The directories that are merged at each level above and here: see [`Levels`].
    level: usize,
}

/// Which directories (tree and index) are merged at each place, with the place above it.
///
/// Where the same ones are merged again further down, links lead back up, and it would go on like that for ever.
#[derive(Default)]
struct Levels(Vec<Level>);

/// The index of the place above, and what is merged: trees and directories.
type Level = (Option<usize>, Vec<(usize, u32)>);

/// What may still be offered.
struct Budget(usize);

/// Merges trees, earlier ones first, into what is there, and says what was left out.
pub(super) fn merge(into: &mut Skeleton, trees: &[Tree<'_>]) -> Result<Vec<Conflict>, ForestError> {
    let offers = trees.iter().enumerate().filter_map(|(tree, Tree { path, listing })| {
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
    // The order of paths, in which a directory comes before what is in it.
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

/// The path without symlinks of the directory that a node is or leads to; `own` is the node's.
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
    /// Paths, and whose entry was left out.
    conflicts: Vec<(Vec<u8>, &'a StorePath)>,
    levels: Levels,
    budget: Budget,
}

impl<'a> Merging<'a, '_> {
    /// Merges one directory but for the directories in it that are merged too: those are added to the tasks.
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

    /// Decides what is at one name, and returns the task where that is a directory to merge.
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
            // Nobody misses it.
            return Ok(None);
        }
        let own = match self.into.get(task.into, name) {
            Some(Place::Directory(_, index)) => Some(*index),
            Some(Place::Leaf(_) | Place::Dangling(_)) => {
                self.drop(&path, offered.into_iter().map(|(offer, _)| offer));
                return Ok(None);
            }
            None => None,
        };
        // What leads nowhere gives way to what leads somewhere.
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
            // The same again: what is in it is at the root of the loop.
            let mut offers = directories.into_iter().map(|(offer, _)| offer);
            if let (None, Some(first)) = (own, offers.next()) {
                self.link(task, first, name, false)?;
                self.drop(&path, different(first, offers));
            }
            return Ok(None);
        };
        if let [first, _, ..] = &mut below[..] {
            // Here buildenv turns the first one's symlink into a directory, and has forgotten how it was found.
            first.source.clone_from(&first.real);
        }
        let into = self.into.directory(task.into, name, Permissions::DIRECTORY);
        let into = into.expect("the name is free or a directory");
        Ok(Some(Task { into, at: path, offers: below, level }))
    }

    /// Notes what was left out.
    fn drop<'o>(&mut self, path: &[u8], offers: impl Iterator<Item = &'o Offer<'a>>)
    where
        'a: 'o,
    {
        self.conflicts.extend(offers.map(|offer| (path.to_vec(), offer.owner)));
    }

    /// Puts a symlink to what is offered.
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
        let place = if is_dangling { Place::Dangling(link) } else { Place::Leaf(link) };
        self.into.put(task.into, name, place);
        Ok(())
    }
}

/// Those that do not offer the very file that the first one offers, found by another way.
fn different<'o, 'a>(
    first: &'o Offer<'a>,
    others: impl Iterator<Item = &'o Offer<'a>>,
) -> impl Iterator<Item = &'o Offer<'a>> {
    others.filter(|other| other.real != first.real)
}

impl<'a> Offer<'a> {
    /// The part of a directory in this one, if the node is such.
    fn enter(&self, name: &FileName, node: Node) -> Option<Self> {
        let Self { owner, tree, listing, .. } = *self;
        let directory = listing.directory_of(node)?;
        let real = real(listing, node, || join(&self.real, name));
        Some(Self { owner, tree, listing, directory, source: join(&self.source, name), real })
    }
}

impl Levels {
    /// Adds what is merged at a place below another; nothing where the same is merged above already.
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
        /// What an entry takes beside its names.
        const ENTRY: usize = 64;
        if at + 1 + name.as_bytes().len() > MAX_PATH {
            return Err(ForestError::TooDeep);
        }
        let bytes = at + source + 2 * name.as_bytes().len() + ENTRY;
        self.0 = self.0.checked_sub(bytes).ok_or(ForestError::TooLarge)?;
        Ok(())
    }
}
