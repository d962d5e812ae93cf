//! The symlink forest: what makes `/bin/git` of `/nix/store/…-git/bin/git`, and the few real files that a
//! container needs around it.
//!
//! Directories at the root are real, so that derived images can add to them. Below, a directory that only
//! one package has is a single symlink, as in Nix's `buildEnv`; one that several have is real and merged.
//! Where two packages have the same file, the first one's is kept and the other is reported.

mod base;

pub use base::{Fixtures, USER_ID};

use crate::{
    StorePath,
    archive::{Content, Entry, ImagePath, Permissions},
    listing::{FileName, Listing, Node},
};
use std::collections::BTreeMap;

/// A package's contribution: where it is, and what is in it.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    /// The output.
    pub path: &'a StorePath,
    /// Its names.
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
    /// What was left out.
    pub conflicts: Vec<Conflict>,
}

/// Names at the root that belong to the image or the container runtime, or that only Nix reads.
const RESERVED: [&str; 6] = ["nix", "nix-support", "proc", "sys", "dev", "tmp"];

/// A tree in the making.
#[derive(Debug)]
enum Place {
    Directory(Permissions, Directory),
    Leaf(Content),
}

type Directory = BTreeMap<FileName, Place>;

impl Forest {
    /// Where `cacert` puts the bundle of certificates, without leading slash.
    pub const CA_BUNDLE: &str = base::CA_BUNDLE;
    /// The home of [`USER_ID`], as `/etc/passwd` has it.
    pub const USER_HOME: &str = "/home/user";

    /// The forest of these trees, earlier ones first where they conflict.
    pub fn new(trees: &[Tree<'_>], fixtures: Fixtures<'_>) -> Self {
        let mut root = Directory::new();
        let has_ca_bundle = trees.iter().any(|tree| contains(tree.listing, Self::CA_BUNDLE));
        fixtures.lay(&mut root, has_ca_bundle);

        let mut conflicts = Vec::new();
        let offers: Vec<Offer<'_>> = trees
            .iter()
            .map(|tree| Offer { owner: tree.path, below: vec![], listing: tree.listing })
            .collect();
        merge(&mut root, &[], &offers, &mut conflicts);

        fixtures.complete(&mut root, has_ca_bundle);

        let mut entries = Vec::new();
        flatten(root, b"", &mut entries);
        Self { entries, conflicts }
    }

    /// Whether the forest has an entry at this path (no leading slash).
    pub fn has(&self, path: &str) -> bool {
        ImagePath::parse(format!("/{path}"))
            .is_ok_and(|path| self.entries.binary_search_by(|entry| entry.path.cmp(&path)).is_ok())
    }
}

impl Place {
    /// An empty directory that belongs to the image.
    fn directory() -> Self {
        Self::Directory(Permissions::DIRECTORY, Directory::new())
    }
}

/// One package's part of a directory that is being merged.
struct Offer<'a> {
    owner: &'a StorePath,
    /// Path inside the owner, components joined by and beginning with slashes.
    below: Vec<u8>,
    listing: &'a Listing,
}

fn name(text: &str) -> FileName {
    FileName::new(text.as_bytes()).expect("a constant file name")
}

fn join(parent: &[u8], name: &FileName) -> Vec<u8> {
    [parent, b"/", name.as_bytes()].concat()
}

fn contains(listing: &Listing, path: &str) -> bool {
    match path.split_once('/') {
        None => listing.contains_key(&name(path)),
        Some((first, rest)) => {
            matches!(listing.get(&name(first)), Some(Node::Directory(below)) if contains(below, rest))
        }
    }
}

/// Puts something at a path unless there is something already; makes the directories above it.
fn add(directory: &mut Directory, path: &str, place: Place) {
    match path.split_once('/') {
        None => {
            directory.entry(name(path)).or_insert(place);
        }
        Some((first, rest)) => {
            let parent = directory.entry(name(first)).or_insert_with(Place::directory);
            if let Place::Directory(_, below) = parent {
                add(below, rest, place);
            }
        }
    }
}

fn merge(into: &mut Directory, at: &[u8], offers: &[Offer<'_>], conflicts: &mut Vec<Conflict>) {
    let mut by_name: BTreeMap<&FileName, Vec<(&Offer<'_>, &Node)>> = BTreeMap::new();
    for offer in offers {
        for (name, node) in offer.listing {
            by_name.entry(name).or_default().push((offer, node));
        }
    }
    for (name, offered) in by_name {
        let path = join(at, name);
        let mut drop = |owner: &StorePath| {
            conflicts
                .push(Conflict { path: String::from_utf8_lossy(&path).into_owned(), dropped: owner.clone() });
        };
        if at.is_empty() && RESERVED.iter().any(|reserved| reserved.as_bytes() == name.as_bytes()) {
            // Only what somebody might miss is worth a report.
            offered.iter().filter(|_| name.as_bytes() != b"nix-support").for_each(|(o, _)| drop(o.owner));
            continue;
        }
        let first_is_directory = match into.get(name) {
            Some(Place::Directory(..)) => true,
            Some(Place::Leaf(_)) => {
                offered.iter().for_each(|(offer, _)| drop(offer.owner));
                continue;
            }
            None => matches!(offered[0].1, Node::Directory(_)),
        };
        if !first_is_directory {
            offered[1..].iter().for_each(|(offer, _)| drop(offer.owner));
            into.insert(name.clone(), Place::Leaf(link(offered[0].0, name)));
            continue;
        }
        let mut directories = Vec::new();
        for (offer, node) in &offered {
            match node {
                Node::Directory(listing) => {
                    directories.push(Offer { owner: offer.owner, below: join(&offer.below, name), listing })
                }
                Node::File(()) => drop(offer.owner),
            }
        }
        let alone = directories.len() == 1 && !base::is_real(&path) && !into.contains_key(name);
        if alone {
            into.insert(name.clone(), Place::Leaf(link(offered[0].0, name)));
        } else if let Place::Directory(_, below) = into.entry(name.clone()).or_insert_with(Place::directory) {
            merge(below, &path, &directories, conflicts);
        }
    }
}

fn link(offer: &Offer<'_>, name: &FileName) -> Content {
    Content::Symlink([offer.owner.as_str().as_bytes(), &join(&offer.below, name)].concat())
}

fn flatten(directory: Directory, at: &[u8], entries: &mut Vec<Entry>) {
    for (name, place) in directory {
        let path = join(at, &name);
        let entry = |content| {
            let path = ImagePath::parse(&path).expect("file names are components of a path");
            Entry { path, content }
        };
        match place {
            Place::Leaf(content) => entries.push(entry(content)),
            Place::Directory(permissions, below) => {
                entries.push(entry(Content::Directory(permissions)));
                flatten(below, &path, entries);
            }
        }
    }
}

#[cfg(test)]
mod tests;
