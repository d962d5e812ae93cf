//! Recording the tree of a store path while something else reads it.

use super::StorePaths;
use super::tree::{LinkTarget, NODE_WEIGHT, PathTree, TreeNode};
use crate::packing::{PackingError, Step, TreeEntry, TreeReader};
use firn_shared::nix::listing::FileName;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The longest `propagated-user-env-packages` that is read, in bytes.
pub(crate) const MAX_PROPAGATED: u64 = 1 << 20;
/// How much memory a tree may take while it is not known whether it is what it should be, in bytes, roughly: that of half a
/// million files.
pub(super) const MAX_RECORDED: usize = 64 << 20;
/// How much memory all such trees may take together, in bytes. One for which nothing is left is read later.
pub(super) const MAX_TOGETHER: usize = 256 << 20;
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

/// How much memory is taken by trees that are being recorded, in bytes, roughly. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken(Arc<AtomicUsize>);

impl Taken {
    /// Takes more. Returns how much all have taken now.
    pub(super) fn take(&self, more: usize) -> usize {
        self.0.fetch_add(more, Ordering::Relaxed) + more
    }
}

/// Passes a tree through and records it.
pub struct Recorder {
    inner: Box<dyn TreeReader>,
    nodes: Vec<TreeNode>,
    /// The directories that it is inside of, outermost first: the index and the name of each.
    inside: Vec<(usize, Vec<u8>)>,
    /// How much memory the nodes take, in bytes. None if that was too much.
    weight: Option<usize>,
    most: usize,
    taken: Taken,
    result: RecordedTree,
    at_end: Option<Box<dyn FnOnce() + Send>>,
}

impl Recorder {
    /// Records what `inner` reads, unless it takes more than `most` bytes of memory, or all together take too much. Calls
    /// `at_end` when all of it has been read.
    pub(super) fn new(
        inner: Box<dyn TreeReader>,
        most: usize,
        taken: Taken,
        result: RecordedTree,
        at_end: impl FnOnce() + Send + 'static,
    ) -> Self {
        let at_end: Option<Box<dyn FnOnce() + Send>> = Some(Box::new(at_end));
        Self { inner, nodes: Vec::new(), inside: Vec::new(), weight: Some(0), most, taken, result, at_end }
    }

    /// Whether it was too large to be recorded.
    pub(super) fn is_too_large(&self) -> bool {
        self.weight.is_none()
    }

    /// Counts the memory for one more node. Gives up if that is too much.
    fn weigh(&mut self, more: usize) {
        let Some(weight) = &mut self.weight else { return };
        *weight += more;
        let together = self.taken.take(more);
        if *weight > self.most || (self.most <= MAX_RECORDED && together > MAX_TOGETHER) {
            (self.nodes, self.inside) = (Vec::new(), Vec::new());
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(weight) = self.weight.take() {
            self.taken.0.fetch_sub(weight, Ordering::Relaxed);
        }
    }

    /// Notes a node, and returns it. What packing would refuse need not be noted: nothing is kept of such a tree.
    fn note(&mut self, name: &[u8], node: TreeEntry) -> Result<TreeEntry, PackingError> {
        if self.is_too_large() {
            return Ok(node);
        }
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
        let text = match &noted {
            TreeNode::Symlink(target) => target.as_bytes().len(),
            TreeNode::Propagated(text) => text.len(),
            TreeNode::Directory(_) | TreeNode::File => 0,
        };
        self.nodes.push(noted);
        self.weigh(NODE_WEIGHT + name.len() + text);
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

impl Drop for Recorder {
    fn drop(&mut self) {
        self.release();
    }
}

impl StorePaths {
    /// Records what `inner` reads, unless it is very large. Calls `at_end` when all of it has been read.
    pub(crate) fn recorder(
        &self,
        inner: Box<dyn TreeReader>,
        result: RecordedTree,
        at_end: impl FnOnce() + Send + 'static,
    ) -> Recorder {
        Recorder::new(inner, MAX_RECORDED, self.taken.clone(), result, at_end)
    }
}
