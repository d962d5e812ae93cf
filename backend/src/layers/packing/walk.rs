//! Walks file trees entry by entry, in archive order.

use super::nar_size;
use super::source_file::SourceFile;
use super::twins::Twins;
use super::{PackingError, Tree};
use firn_shared::archive::{ImagePath, Permissions};
use std::collections::VecDeque;
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::vec;

/// What the walk found at a path.
#[derive(Debug)]
pub(super) enum Found {
    Directory(Permissions),
    File(Permissions, Arc<SourceFile>),
    /// Equal to the file of the same tree at this path.
    HardLink(Permissions, ImagePath),
    Symlink(Vec<u8>),
}

/// Whether clients treat a file of this name in a layer as a whiteout. The special names of aufs, `.wh..wh..opq` and
/// `.wh..wh.plnk`, have the same prefix.
fn is_whiteout(name: &[u8]) -> bool {
    name.starts_with(b".wh.")
}

/// Iterates over trees in sorted order: each directory comes before its contents, and a directory above several trees
/// comes once. Keeps in memory the names in the directories that it is inside of, and the large files of the tree.
pub(super) struct Walk {
    trees: vec::IntoIter<Tree>,
    /// Directories above the next tree. The tree itself follows.
    ancestors: VecDeque<ImagePath>,
    last_tree: Option<ImagePath>,
    next_tree: Option<Tree>,
    /// The remaining entries of each directory that the walk is inside of, outermost first.
    inside: Vec<(ImagePath, vec::IntoIter<fs::DirEntry>)>,
    /// The files of the current tree.
    twins: Twins,
    /// Size of the NARs of everything found so far, in bytes.
    pub(super) nar_size: u64,
}

impl Walk {
    pub(super) fn new(mut trees: Vec<Tree>) -> Result<Self, PackingError> {
        trees.sort_by(|a, b| a.at.cmp(&b.at));
        for pair in trees.windows(2) {
            // The trees are sorted by component, so a tree inside another one comes directly after it.
            if pair[0].at == pair[1].at || pair[1].at.ancestors().any(|above| above == pair[0].at) {
                return Err(PackingError::Overlap { path: pair[1].from.clone() });
            }
        }
        for Tree { at, from } in &trees {
            if at.relative().split(|byte| *byte == b'/').any(is_whiteout) {
                return Err(PackingError::Whiteout { path: from.clone() });
            }
        }
        let trees = trees.into_iter();
        Ok(Self {
            trees,
            ancestors: VecDeque::new(),
            last_tree: None,
            next_tree: None,
            inside: Vec::new(),
            twins: Twins::default(),
            nar_size: 0,
        })
    }

    fn step(&mut self) -> Result<Option<(ImagePath, Found)>, PackingError> {
        while let Some((directory, entries)) = self.inside.last_mut() {
            let Some(entry) = entries.next() else {
                self.inside.pop();
                continue;
            };
            let path = entry.path();
            let name = entry.file_name();
            if is_whiteout(name.as_bytes()) {
                return Err(PackingError::Whiteout { path });
            }
            self.nar_size += nar_size::entry(name.len());
            let at = directory.join(name.as_bytes()).expect("a directory lists plain names");
            let metadata =
                entry.metadata().map_err(|source| PackingError::Read { path: path.clone(), source })?;
            return self.visit(at, path, &metadata).map(Some);
        }
        if let Some(above) = self.ancestors.pop_front() {
            return Ok(Some((above, Found::Directory(Permissions::DIRECTORY))));
        }
        if let Some(Tree { at, from }) = self.next_tree.take() {
            self.twins = Twins::default();
            self.nar_size += nar_size::BEGINNING;
            let metadata = fs::symlink_metadata(&from)
                .map_err(|source| PackingError::Read { path: from.clone(), source })?;
            return self.visit(at, from, &metadata).map(Some);
        }
        let Some(tree) = self.trees.next() else {
            return Ok(None);
        };
        let last = self.last_tree.replace(tree.at.clone());
        let is_new = |above: &ImagePath| !last.iter().any(|last| last.ancestors().any(|old| old == *above));
        self.ancestors = tree.at.ancestors().filter(is_new).collect();
        self.next_tree = Some(tree);
        self.step()
    }

    fn visit(
        &mut self,
        at: ImagePath,
        path: PathBuf,
        metadata: &Metadata,
    ) -> Result<(ImagePath, Found), PackingError> {
        let file_type = metadata.file_type();
        let read = |source| PackingError::Read { path: path.clone(), source };
        let found = if file_type.is_dir() {
            let mut entries =
                fs::read_dir(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(read)?;
            entries.sort_by_cached_key(fs::DirEntry::file_name);
            self.inside.push((at.clone(), entries.into_iter()));
            self.nar_size += nar_size::DIRECTORY;
            Found::Directory(Permissions::STORE_DIRECTORY)
        } else if file_type.is_symlink() {
            let target = fs::read_link(&path).map_err(read)?.into_os_string().into_vec();
            self.nar_size += nar_size::symlink(target.len());
            Found::Symlink(target)
        } else if file_type.is_file() {
            // Nix looks at the owner's bit.
            let is_executable = metadata.mode() & 0o100 != 0;
            self.nar_size += nar_size::file(metadata.size(), is_executable);
            let permissions =
                if is_executable { Permissions::STORE_EXECUTABLE } else { Permissions::STORE_FILE };
            let file = Arc::new(SourceFile::new(path, metadata));
            match self.twins.earlier(&at, permissions, &file)? {
                Some(earlier) => Found::HardLink(permissions, earlier),
                None => Found::File(permissions, file),
            }
        } else {
            return Err(PackingError::Unsupported { path });
        };
        Ok((at, found))
    }
}

impl Iterator for Walk {
    type Item = Result<(ImagePath, Found), PackingError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
