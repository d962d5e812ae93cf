//! A file tree under construction.

use super::{join, name};
use crate::{
    archive::{Content, Entry, ImagePath, Permissions},
    nix::listing::FileName,
};
use std::collections::{BTreeMap, btree_map};

/// A tree of directories. Entries are never removed.
///
/// Directories refer to each other by index, so that building and flattening a deep tree needs no recursion.
#[derive(Debug)]
pub(super) struct Skeleton {
    directories: Vec<BTreeMap<FileName, Occupant>>,
}

/// An entry of a directory.
#[derive(Debug)]
pub(super) enum Occupant {
    /// A real directory, by its index.
    Directory(Permissions, usize),
    /// A file, or a symlink that is not dangling.
    Leaf(Content),
    /// A dangling symlink.
    Dangling(Content),
}

/// The index of the root directory.
pub(super) const ROOT: usize = 0;

impl Default for Skeleton {
    fn default() -> Self {
        Self { directories: vec![BTreeMap::new()] }
    }
}

impl Skeleton {
    /// Adds an entry and its missing parent directories. Does nothing if the path is taken, or a parent is not a
    /// directory.
    pub(super) fn add(&mut self, path: &str, content: Content) {
        let (parents, last) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = ROOT;
        for parent in parents.split('/').filter(|parent| !parent.is_empty()) {
            let Some(below) = self.directory(at, &name(parent), Permissions::DIRECTORY) else { return };
            at = below;
        }
        match content {
            Content::Directory(permissions) => {
                self.directory(at, &name(last), permissions);
            }
            content => {
                self.directories[at].entry(name(last)).or_insert(Occupant::Leaf(content));
            }
        }
    }

    /// The entry with this name in a directory.
    pub(super) fn get(&self, directory: usize, name: &FileName) -> Option<&Occupant> {
        self.directories[directory].get(name)
    }

    /// Adds an entry to a directory. The name must be free.
    pub(super) fn put(&mut self, directory: usize, name: &FileName, place: Occupant) {
        self.directories[directory].insert(name.clone(), place);
    }

    /// The index of the directory with this name. If the name is free, the directory is created with these permissions.
    /// `None` if the name belongs to something else.
    pub(super) fn directory(
        &mut self,
        parent: usize,
        name: &FileName,
        permissions: Permissions,
    ) -> Option<usize> {
        match self.get(parent, name) {
            Some(Occupant::Directory(_, index)) => Some(*index),
            Some(_) => None,
            None => {
                let index = self.directories.len();
                self.directories.push(BTreeMap::new());
                self.put(parent, name, Occupant::Directory(permissions, index));
                Some(index)
            }
        }
    }

    /// All entries, and the paths of the dangling symlinks. Both are sorted by path, so that every directory comes
    /// before its contents.
    pub(super) fn flatten(mut self) -> (Vec<Entry>, Vec<ImagePath>) {
        type Names = btree_map::IntoIter<FileName, Occupant>;
        let mut take = |index: usize| -> Names { std::mem::take(&mut self.directories[index]).into_iter() };
        let (mut entries, mut dangling) = (Vec::new(), Vec::new());
        let mut inside: Vec<(Vec<u8>, Names)> = vec![(Vec::new(), take(ROOT))];
        while let Some((at, names)) = inside.last_mut() {
            let Some((name, place)) = names.next() else {
                inside.pop();
                continue;
            };
            let below = join(at, &name);
            let path = ImagePath::parse(&below).expect("file names are components of a path");
            let content = match place {
                Occupant::Leaf(content) => content,
                Occupant::Dangling(content) => {
                    dangling.push(path.clone());
                    content
                }
                Occupant::Directory(permissions, index) => {
                    inside.push((below, take(index)));
                    Content::Directory(permissions)
                }
            };
            entries.push(Entry { path, content });
        }
        (entries, dangling)
    }
}
