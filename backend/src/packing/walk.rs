//! Walks file trees entry by entry, in archive order.

use super::PackingError;
use super::file_content::FileContent;
use super::nar_size;
use super::tree::FileTree;
use super::tree_reader::{Step, TreeEntry, TreeReader};
use super::twins::{Compared, Twins};
use firn_shared::archive::{ImagePath, Permissions};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

/// What the walk found at a path.
#[derive(Debug)]
pub(super) enum Found {
    Directory(Permissions),
    File(Permissions, FileContent),
    /// Equal to the file of the same tree at this path.
    HardLink(Permissions, ImagePath),
    Symlink(Vec<u8>),
}

/// Whether clients treat a file of this name in a layer as a whiteout. The special names of aufs, `.wh..wh..opq` and
/// `.wh..wh.plnk`, have the same prefix.
fn is_whiteout(name: &[u8]) -> bool {
    name.starts_with(b".wh.")
}

/// An iterator over trees: sorted, every directory before what it holds, the directories that lead to a tree
/// once. Remembers the large files of the tree.
pub(super) struct Walk {
    trees: vec::IntoIter<FileTree>,
    /// Where files wait that came too early.
    spool: Arc<Path>,
    /// Directories above the next tree, then the tree itself.
    ancestors: VecDeque<ImagePath>,
    last_tree: Option<ImagePath>,
    tree: Option<OpenTree>,
    /// Bytes of NAR of all that was found so far.
    pub(super) nar_size: u64,
}

/// The tree that the walk is inside of.
struct OpenTree {
    at: ImagePath,
    reader: Box<dyn TreeReader>,
    is_at_root: bool,
    /// The directories that it is inside of, outermost first.
    inside: Vec<OpenDirectory>,
    twins: Twins,
}

struct OpenDirectory {
    at: ImagePath,
    /// The name that was found last.
    last: Option<Vec<u8>>,
}

impl Walk {
    pub(super) fn new(mut trees: Vec<FileTree>, spool: &Arc<Path>) -> Result<Self, PackingError> {
        trees.sort_by(|a, b| a.at.cmp(&b.at));
        for pair in trees.windows(2) {
            // The trees are sorted by component, so a tree inside another one comes directly after it.
            if pair[0].at == pair[1].at || pair[1].at.ancestors().any(|above| above == pair[0].at) {
                return Err(PackingError::Overlap { path: pair[1].reader.origin().into() });
            }
        }
        for FileTree { at, reader } in &trees {
            if at.relative().split(|byte| *byte == b'/').any(is_whiteout) {
                return Err(PackingError::Whiteout { path: reader.origin().into() });
            }
        }
        let trees = trees.into_iter();
        let spool = Arc::clone(spool);
        Ok(Self { trees, spool, ancestors: VecDeque::new(), last_tree: None, tree: None, nar_size: 0 })
    }

    fn next_entry(&mut self) -> Result<Option<(ImagePath, Found)>, PackingError> {
        loop {
            if let Some(above) = self.ancestors.pop_front() {
                return Ok(Some((above, Found::Directory(Permissions::DIRECTORY))));
            }
            if let Some(tree) = &mut self.tree {
                if let Some(found) = tree.next_entry(&mut self.nar_size)? {
                    return Ok(Some(found));
                }
                self.tree = None;
            }
            let Some(FileTree { at, reader }) = self.trees.next() else { return Ok(None) };
            let last = self.last_tree.replace(at.clone());
            let is_new =
                |above: &ImagePath| !last.iter().any(|last| last.ancestors().any(|old| old == *above));
            self.ancestors = at.ancestors().filter(is_new).collect();
            self.tree = Some(OpenTree::new(at, reader, &self.spool));
        }
    }
}

impl OpenTree {
    fn new(at: ImagePath, reader: Box<dyn TreeReader>, spool: &Arc<Path>) -> Self {
        Self { at, reader, is_at_root: true, inside: Vec::new(), twins: Twins::new(spool) }
    }

    fn next_entry(&mut self, nar_size: &mut u64) -> Result<Option<(ImagePath, Found)>, PackingError> {
        loop {
            match self.reader.step()? {
                Some(Step::Enter(name, node)) => {
                    let at = match self.enter(name, nar_size) {
                        Ok(at) => at,
                        Err(error) => return Err(self.reader.confirm().err().unwrap_or(error)),
                    };
                    return self.visit(at, node, nar_size).map(Some);
                }
                Some(Step::Leave) => drop(self.inside.pop()),
                None => return Ok(None),
            }
        }
    }

    /// Where something of this name is in the image.
    fn enter(&mut self, name: Vec<u8>, nar_size: &mut u64) -> Result<ImagePath, PackingError> {
        if std::mem::take(&mut self.is_at_root) {
            *nar_size += nar_size::BEGINNING;
            return Ok(self.at.clone());
        }
        if is_whiteout(&name) {
            return Err(PackingError::Whiteout { path: self.origin_of(&name) });
        }
        let path = |tree: &Self| tree.origin_of(&name);
        let Some(directory) = self.inside.last() else {
            return Err(PackingError::Order { path: path(self) });
        };
        if directory.last.as_ref().is_some_and(|last| *last >= name) {
            return Err(PackingError::Order { path: path(self) });
        }
        let at = directory.at.join(&name);
        let at = at.map_err(|source| PackingError::Path { path: path(self), source })?;
        *nar_size += nar_size::entry(name.len());
        if let Some(directory) = self.inside.last_mut() {
            directory.last = Some(name);
        }
        Ok(at)
    }

    fn visit(
        &mut self,
        at: ImagePath,
        node: TreeEntry,
        nar_size: &mut u64,
    ) -> Result<(ImagePath, Found), PackingError> {
        let found = match node {
            TreeEntry::Directory => {
                self.inside.push(OpenDirectory { at: at.clone(), last: None });
                *nar_size += nar_size::DIRECTORY;
                Found::Directory(Permissions::STORE_DIRECTORY)
            }
            TreeEntry::Symlink(target) => {
                *nar_size += nar_size::symlink(target.len());
                Found::Symlink(target)
            }
            TreeEntry::File { is_executable, content } => {
                *nar_size += nar_size::file(content.size(), is_executable);
                let permissions =
                    if is_executable { Permissions::STORE_EXECUTABLE } else { Permissions::STORE_FILE };
                match self.twins.compare(&at, permissions, content)? {
                    Compared::Equal(earlier) => Found::HardLink(permissions, earlier),
                    Compared::New(content) => Found::File(permissions, content),
                }
            }
        };
        Ok((at, found))
    }

    /// Where something of this name is read from, for error messages.
    fn origin_of(&self, name: &[u8]) -> PathBuf {
        let mut path = self.reader.origin().to_owned();
        // The first of the directories is the root.
        let above = self.inside.iter().skip(1).filter_map(|directory| {
            let at = directory.at.relative();
            at.rsplit(|byte| *byte == b'/').next()
        });
        path.extend(above.chain([name]).map(OsStr::from_bytes));
        path
    }
}

impl Iterator for Walk {
    type Item = Result<(ImagePath, Found), PackingError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}
