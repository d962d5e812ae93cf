//! A file tree in the making.

use super::{join, name};
use crate::{
    archive::{Content, Entry, ImagePath, Permissions},
    nix::listing::FileName,
};
use std::collections::{BTreeMap, btree_map};

/// A tree of directories, in which nothing is ever removed.
///
/// Directories refer to each other by index, so that neither making nor taking apart a deep tree recurses.
#[derive(Debug)]
pub(super) struct Skeleton {
    directories: Vec<BTreeMap<FileName, Place>>,
}

/// What is at a name.
#[derive(Debug)]
pub(super) enum Place {
    /// A real directory, by its index.
    Directory(Permissions, usize),
    /// Anything else.
    Leaf(Content),
    /// A symlink that leads nowhere.
    Dangling(Content),
}

/// The directory at the root.
pub(super) const ROOT: usize = 0;

impl Default for Skeleton {
    fn default() -> Self {
        Self { directories: vec![BTreeMap::new()] }
    }
}

impl Skeleton {
    /// Puts something at a path unless there is something already, or a file is above; makes the directories above.
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
                self.directories[at].entry(name(last)).or_insert(Place::Leaf(content));
            }
        }
    }

    /// What is at a name in a directory.
    pub(super) fn get(&self, directory: usize, name: &FileName) -> Option<&Place> {
        self.directories[directory].get(name)
    }

    /// Puts something other than a directory at a name that is free.
    pub(super) fn put(&mut self, directory: usize, name: &FileName, place: Place) {
        self.directories[directory].insert(name.clone(), place);
    }

    /// The directory at a name, made with these permissions if the name is free; none if something else is there.
    pub(super) fn directory(
        &mut self,
        parent: usize,
        name: &FileName,
        permissions: Permissions,
    ) -> Option<usize> {
        match self.get(parent, name) {
            Some(Place::Directory(_, index)) => Some(*index),
            Some(_) => None,
            None => {
                let index = self.directories.len();
                self.directories.push(BTreeMap::new());
                self.put(parent, name, Place::Directory(permissions, index));
                Some(index)
            }
        }
    }

    /// All entries, and the paths of the symlinks that lead nowhere; both sorted, every directory before what is in
    /// it.
    pub(super) fn flatten(mut self) -> (Vec<Entry>, Vec<ImagePath>) {
        type Names = btree_map::IntoIter<FileName, Place>;
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
                Place::Leaf(content) => content,
                Place::Dangling(content) => {
                    dangling.push(path.clone());
                    content
                }
                Place::Directory(permissions, index) => {
                    inside.push((below, take(index)));
                    Content::Directory(permissions)
                }
            };
            entries.push(Entry { path, content });
        }
        (entries, dangling)
    }
}
