//! The tree of a store path: its names, without the bytes of its files.

use firn_shared::nix::listing::{FileName, byte_text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a store path holds, as far as the contents of packages depend on it. The first node is the root. It is a function of
/// the path's content, so that it is recorded once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PathTree {
    pub(super) nodes: Vec<TreeNode>,
}

/// How much memory a node takes, in bytes, roughly.
pub(super) const NODE_WEIGHT: usize = 120;

/// A node of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeNode {
    /// A directory: its names, each with the index of its node.
    Directory(BTreeMap<FileName, u32>),
    /// A symlink with its target.
    Symlink(LinkTarget),
    /// A regular file.
    File,
    /// A regular file that says which other packages a package brings along, with its text.
    Propagated(String),
}

/// The target of a symlink, which consists of bytes. It is serialised as its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkTarget(pub(super) Vec<u8>);

impl From<LinkTarget> for String {
    fn from(target: LinkTarget) -> Self {
        byte_text::encode(&target.0)
    }
}

/// The text is not what a target is serialised as.
#[derive(Debug, thiserror::Error)]
#[error("not the target of a symlink")]
pub struct LinkTargetError;

impl TryFrom<String> for LinkTarget {
    type Error = LinkTargetError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        byte_text::decode(&text).map(Self).ok_or(LinkTargetError)
    }
}

impl LinkTarget {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PathTree {
    /// The node that these names lead to from the root, without following symlinks.
    pub fn node<'a>(&self, names: impl IntoIterator<Item = &'a [u8]>) -> Option<&TreeNode> {
        let mut node = self.nodes.first()?;
        for name in names {
            let TreeNode::Directory(entries) = node else { return None };
            node = self.at(*entries.get(&FileName::new(name).ok()?)?)?;
        }
        Some(node)
    }

    /// The node of this index, which a directory of the same tree names.
    pub fn at(&self, index: u32) -> Option<&TreeNode> {
        self.nodes.get(index as usize)
    }

    /// How much memory it takes, in bytes, roughly.
    pub fn weight(&self) -> u32 {
        u32::try_from(self.nodes.len().saturating_mul(NODE_WEIGHT)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn targets_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let target = LinkTarget(bytes);
            prop_assert_eq!(LinkTarget::try_from(String::from(target.clone())).expect("its own text"), target);
        }
    }
}
