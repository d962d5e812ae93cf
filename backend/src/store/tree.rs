//! All that belongs to an image, found by following its documents.

use super::{Store, StoreError};
use bytes::Bytes;
use firn_shared::{
    Digest,
    oci::document::{Child, ChildKind, Descriptor, Document},
};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::HashSet;

/// How many documents are read at once.
const AT_ONCE: usize = 8;

/// The documents that some others lead to, those included, and their blobs. Each is there once.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Documents that were read, each before those that only it refers to.
    pub(crate) documents: Vec<(Descriptor, Document)>,
    /// Documents that are missing, or that are not what is said of them. What they refer to is not known.
    pub(crate) broken: Vec<Descriptor>,
    /// Configs and layers. Nobody has looked whether they are there.
    pub(crate) blobs: Vec<Descriptor>,
}

impl Tree {
    /// Reads documents by `read`, and those that they refer to. Nothing for a digest means that it cannot be read.
    ///
    /// # Errors
    /// When reading fails.
    pub(crate) async fn read<R>(roots: &[Descriptor], read: impl Fn(Digest) -> R) -> Result<Self, StoreError>
    where
        R: Future<Output = Result<Option<Bytes>, StoreError>>,
    {
        let mut tree = Self::default();
        // A document is read once, however often it is referred to: so this ends.
        let (mut documents, mut blobs) = (HashSet::new(), HashSet::new());
        let mut next = roots.to_vec();
        while !next.is_empty() {
            next.retain(|descriptor| documents.insert(descriptor.digest));
            let reads: Vec<_> = next.iter().map(|descriptor| read(descriptor.digest)).collect();
            let read: Vec<_> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
            for (descriptor, bytes) in std::mem::take(&mut next).into_iter().zip(read) {
                let Some(document) = bytes.and_then(|bytes| parse(&bytes, &descriptor)) else {
                    tree.broken.push(descriptor);
                    continue;
                };
                for Child { descriptor, kind } in document.children() {
                    match kind {
                        ChildKind::Manifest => next.push(descriptor.clone()),
                        ChildKind::Blob if blobs.insert(descriptor.digest) => {
                            tree.blobs.push(descriptor.clone());
                        }
                        ChildKind::Blob => {}
                    }
                }
                tree.documents.push((descriptor, document));
            }
        }
        Ok(tree)
    }

    /// The digests of all documents, also of those that are broken.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = Digest> {
        let read = self.documents.iter().map(|(descriptor, _)| descriptor);
        read.chain(&self.broken).map(|descriptor| descriptor.digest)
    }

    /// The digests of everything.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.manifests().chain(self.blobs.iter().map(|blob| blob.digest))
    }
}

/// The document, if it is what is said of it.
fn parse(bytes: &[u8], descriptor: &Descriptor) -> Option<Document> {
    let document = Document::parse(bytes).ok()?;
    (document.media_type() == descriptor.media_type && bytes.len() as u64 == descriptor.size)
        .then_some(document)
}

impl Store {
    /// All that these documents lead to. What turns out to be corrupt goes to quarantine.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn tree(&self, roots: &[Descriptor]) -> Result<Tree, StoreError> {
        Tree::read(roots, |digest| async move { self.small_blob(&digest).await }).await
    }
}
