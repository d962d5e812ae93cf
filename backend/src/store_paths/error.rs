//! What can stop Firn from finding out what store paths hold.

use crate::{
    binary_cache::{BinaryCacheError, NarError},
    packing::PackingError,
    store::{STORE_FAILED, StoreError},
};

/// Why it is unknown what a store path is or holds.
#[derive(Debug, thiserror::Error)]
pub enum StorePathError {
    /// Binary caches cannot tell what they have.
    #[error(transparent)]
    Caches(#[from] BinaryCacheError),
    /// A tree cannot be read.
    #[error(transparent)]
    Tree(#[from] PackingError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StorePathError {
    /// The message for clients; `None` if there is nothing that they may know.
    pub fn explain(&self) -> Option<String> {
        match self {
            Self::Caches(error) => Some(error.explain()),
            Self::Tree(error) => NarError::of(error).map(NarError::explain),
            Self::Store(_) => Some(STORE_FAILED.into()),
        }
    }

    /// Whether binary caches are the reason, so that it may be over soon.
    pub fn is_of_caches(&self) -> bool {
        match self {
            Self::Caches(_) => true,
            Self::Tree(error) => NarError::of(error).is_some(),
            Self::Store(_) => false,
        }
    }
}
