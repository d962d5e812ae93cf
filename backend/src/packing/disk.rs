//! File trees on this machine's disks.

use super::PackingError;
use super::file_content::FileContent;
use super::source_file::SourceFile;
use super::tree_reader::{Node, Step, TreeReader};
use std::fs::{self, DirEntry, Metadata};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

/// Reads a tree from the file system. Holds the names in the directories that it is inside of.
pub struct DiskTree {
    root: PathBuf,
    is_at_root: bool,
    /// The rest of each directory that it is inside of, outermost first.
    inside: Vec<vec::IntoIter<DirEntry>>,
}

impl DiskTree {
    /// The tree whose root is this path, which need not be a directory.
    pub fn new(root: PathBuf) -> Self {
        Self { root, is_at_root: true, inside: Vec::new() }
    }

    fn visit(&mut self, path: PathBuf, metadata: &Metadata) -> Result<Node, PackingError> {
        let file_type = metadata.file_type();
        let read = |source| PackingError::Read { path: path.clone(), source };
        if file_type.is_dir() {
            let mut entries =
                fs::read_dir(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(read)?;
            entries.sort_by_cached_key(DirEntry::file_name);
            self.inside.push(entries.into_iter());
            Ok(Node::Directory)
        } else if file_type.is_symlink() {
            Ok(Node::Symlink(fs::read_link(&path).map_err(read)?.into_os_string().into_vec()))
        } else if file_type.is_file() {
            // The owner's bit, as Nix decides it.
            let is_executable = metadata.mode() & 0o100 != 0;
            let content = FileContent::File(Arc::new(SourceFile::new(path, metadata)));
            Ok(Node::File { is_executable, content })
        } else {
            Err(PackingError::Unsupported { path })
        }
    }
}

impl TreeReader for DiskTree {
    fn origin(&self) -> &Path {
        &self.root
    }

    fn step(&mut self) -> Result<Option<Step>, PackingError> {
        if std::mem::take(&mut self.is_at_root) {
            let path = self.root.clone();
            let metadata = fs::symlink_metadata(&path)
                .map_err(|source| PackingError::Read { path: path.clone(), source })?;
            return Ok(Some(Step::Enter(Vec::new(), self.visit(path, &metadata)?)));
        }
        let Some(entries) = self.inside.last_mut() else { return Ok(None) };
        let Some(entry) = entries.next() else {
            self.inside.pop();
            return Ok(Some(Step::Leave));
        };
        let (path, name) = (entry.path(), entry.file_name().into_vec());
        let metadata =
            entry.metadata().map_err(|source| PackingError::Read { path: path.clone(), source })?;
        Ok(Some(Step::Enter(name, self.visit(path, &metadata)?)))
    }
}
