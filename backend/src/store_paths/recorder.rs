//! Recording the tree of a store path while something else reads it.

use super::tree::{LinkTarget, PathTree, TreeNode};
use crate::packing::{PackingError, Step, TreeEntry, TreeReader};
use firn_shared::nix::listing::FileName;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The longest `propagated-user-env-packages` that is read, in bytes.
pub(crate) const MAX_PROPAGATED: u64 = 1 << 20;
/// Where that file is, from the root.
const PROPAGATED: [&[u8]; 2] = [b"nix-support", b"propagated-user-env-packages"];

/// Where a recorded tree appears when it has been read to its end.
#[derive(Debug, Clone, Default)]
pub struct RecordedTree(Arc<Mutex<Option<PathTree>>>);

impl RecordedTree {
    /// The tree, if it was read to its end.
    pub fn take(&self) -> Option<PathTree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Passes a tree through and records it.
pub struct Recorder {
    inner: Box<dyn TreeReader>,
    nodes: Vec<TreeNode>,
    /// The directories that it is inside of, outermost first: the index and the name of each.
    inside: Vec<(usize, Vec<u8>)>,
    result: RecordedTree,
    at_end: Option<Box<dyn FnOnce() + Send>>,
}

impl Recorder {
    /// Records what `inner` reads. Calls `at_end` when all of it has been read.
    pub fn new(
        inner: Box<dyn TreeReader>,
        result: RecordedTree,
        at_end: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self { inner, nodes: Vec::new(), inside: Vec::new(), result, at_end: Some(Box::new(at_end)) }
    }

    /// Notes a node, and returns it. What packing would refuse need not be noted: nothing is kept of such a tree.
    fn note(&mut self, name: &[u8], node: TreeEntry) -> Result<TreeEntry, PackingError> {
        let index = self.nodes.len();
        if let Some((directory, _)) = self.inside.last()
            && let TreeNode::Directory(entries) = &mut self.nodes[*directory]
            && let (Ok(name), Ok(index)) = (FileName::new(name), u32::try_from(index))
        {
            entries.insert(name, index);
        }
        let (noted, node) = match node {
            TreeEntry::Directory => {
                self.inside.push((index, name.to_vec()));
                (TreeNode::Directory(BTreeMap::new()), TreeEntry::Directory)
            }
            TreeEntry::Symlink(target) => {
                (TreeNode::Symlink(LinkTarget(target.clone())), TreeEntry::Symlink(target))
            }
            TreeEntry::File { is_executable, content } if self.is_propagated(name) => {
                let (bytes, content) = content.peek(MAX_PROPAGATED)?;
                let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                (
                    text.map_or(TreeNode::File, TreeNode::Propagated),
                    TreeEntry::File { is_executable, content },
                )
            }
            file @ TreeEntry::File { .. } => (TreeNode::File, file),
        };
        self.nodes.push(noted);
        Ok(node)
    }

    fn is_propagated(&self, name: &[u8]) -> bool {
        matches!(&*self.inside, [_root, (_, directory)] if directory == PROPAGATED[0])
            && name == PROPAGATED[1]
    }
}

impl TreeReader for Recorder {
    fn origin(&self) -> &Path {
        self.inner.origin()
    }

    fn step(&mut self) -> Result<Option<Step>, PackingError> {
        let step = match self.inner.step()? {
            Some(Step::Enter(name, node)) => {
                let node = self.note(&name, node)?;
                return Ok(Some(Step::Enter(name, node)));
            }
            step => step,
        };
        match &step {
            Some(_) => drop(self.inside.pop()),
            None => {
                let nodes = std::mem::take(&mut self.nodes);
                if !nodes.is_empty() {
                    *self.result.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(PathTree { nodes });
                }
                if let Some(at_end) = self.at_end.take() {
                    at_end();
                }
            }
        }
        Ok(step)
    }

    fn confirm(&mut self) -> Result<(), PackingError> {
        self.inner.confirm()
    }
}
