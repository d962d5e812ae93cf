//! What can stop Firn from making a layer.

use crate::{
    binary_cache::NarError,
    nix::RequisitesError,
    packing::PackingError,
    store::{STORE_FAILED, StoreError},
    store_paths::StorePathError,
};
use firn_shared::StorePath;
use std::io::ErrorKind;
use std::sync::Arc;

/// Why there is no layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A store path has been deleted.
    #[error("{0} is gone from the Nix store")]
    Vanished(StorePath),
    /// A store path is smaller than Nix says: it is being deleted, or its deletion was interrupted.
    #[error("{0}, or another path of its layer, is not whole in the Nix store")]
    Incomplete(StorePath),
    /// A store path has other bytes than when it was recorded: it was built again since.
    #[error("{0} has another content in the Nix store than on record")]
    OtherContent(StorePath),
    /// Nix could not tell what the store paths hold.
    #[error(transparent)]
    Requisites(#[from] RequisitesError),
    /// It is unknown where a store path can be read.
    #[error(transparent)]
    StorePaths(#[from] StorePathError),
    /// The layer could not be packed.
    #[error(transparent)]
    Packing(#[from] PackingError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another image wanted the same layer, and its attempt failed.
    #[error("a layer that another build was packing failed")]
    Shared(#[source] Arc<Self>),
}

impl LayerError {
    /// The message for clients; `None` if there is nothing that they may know.
    pub fn explain(&self) -> Option<String> {
        match self {
            Self::Packing(PackingError::Whiteout { .. }) => Some(self.to_string()),
            Self::Packing(PackingError::Write(_)) | Self::Store(_) => Some(STORE_FAILED.into()),
            Self::Requisites(error) => error.explain(),
            Self::StorePaths(error) => error.explain(),
            Self::Shared(error) => error.explain(),
            Self::Packing(error) => NarError::of(error).map(NarError::explain),
            Self::Vanished(_) | Self::Incomplete(_) | Self::OtherContent(_) => None,
        }
    }

    /// Whether the next attempt would fail in the same way, so that Firn remembers the failure.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Packing(PackingError::Whiteout { .. }) => true,
            Self::Shared(error) => error.is_lasting(),
            _ => false,
        }
    }

    /// Whether a store path was gone, from the Nix store or from binary caches, or had another content. It helps to realise it again and to record what it holds
    /// then.
    pub fn is_vanished(&self) -> bool {
        match self {
            Self::Vanished(_) | Self::Incomplete(_) | Self::OtherContent(_) => true,
            Self::Packing(error) if NarError::of(error).is_some_and(|error| error.gone().is_some()) => true,
            Self::Packing(PackingError::Read { source, .. }) => source.kind() == ErrorKind::NotFound,
            Self::Shared(error) => error.is_vanished(),
            _ => false,
        }
    }
}
