//! What can stop a build, and what clients are told about it. `http/refusal.rs` says which error of the registry it is.

use crate::{
    layers::LayerError,
    packages::PackageError,
    store::{BudgetSpent, STORE_FAILED, StoreError},
    waiting::{Abandoned, QueueError},
};
use firn_shared::{
    composition::Undescribable,
    image::{BlueprintError, forest::ForestError, selection::SelectionError},
    naming::package::Words,
    nix::closure::ClosureError,
};
use std::error::Error;
use std::io::ErrorKind;
use std::sync::Arc;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Its packages are not known.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// A layer could not be made.
    #[error(transparent)]
    Layers(#[from] LayerError),
    /// Closures contradict each other.
    #[error(transparent)]
    Closure(#[from] ClosureError),
    /// Packages have too much in common.
    #[error(transparent)]
    Forest(#[from] ForestError),
    /// A closure is not whole.
    #[error(transparent)]
    Undescribable(#[from] Undescribable),
    /// The image would be larger than the operator allows.
    #[error("the image holds {} MiB, and this registry allows {} MiB", size >> 20, limit >> 20)]
    TooLarge {
        /// Its closure's NAR size, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue has no place for this client. It says nothing about other clients.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// It did not begin because all clients had gone.
    #[error(transparent)]
    Abandoned(#[from] Abandoned),
    /// The build failed a moment ago, and would fail in the same way now.
    #[error("its last build failed")]
    Remembered(#[source] Arc<Self>),
}

impl From<SelectionError> for BuildError {
    fn from(error: SelectionError) -> Self {
        Self::Packages(error.into())
    }
}

impl From<BlueprintError> for BuildError {
    fn from(error: BlueprintError) -> Self {
        match error {
            BlueprintError::Closure(error) => Self::Closure(error),
            BlueprintError::Forest(error) => Self::Forest(error),
        }
    }
}

impl BuildError {
    /// Whether the next attempt would fail in the same way, so that Firn remembers the failure.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Packages(error) => error.is_lasting(),
            Self::Layers(error) => error.is_lasting(),
            Self::TooLarge { .. } | Self::Forest(_) => true,
            Self::Remembered(error) => error.is_lasting(),
            _ => false,
        }
    }

    /// Whether it did not begin because all clients had gone.
    pub fn is_abandoned(&self) -> bool {
        match self {
            Self::Abandoned(_) => true,
            Self::Packages(error) => error.is_abandoned(),
            _ => false,
        }
    }

    /// Whether a disk or budget is full.
    pub fn is_for_want_of_space(&self) -> bool {
        let mut error: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(cause) = error {
            let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            if matches!(io, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
                || cause.is::<BudgetSpent>()
            {
                return true;
            }
            error = cause.source();
        }
        false
    }

    /// The message for clients: what they can act on. The log has the rest.
    pub fn explain(&self, words: Words) -> String {
        if self.is_for_want_of_space() {
            return "this registry has no space left for new images; try again later".into();
        }
        let message = match self {
            Self::Packages(error) => error.explain(words),
            Self::Layers(error) => error.explain(),
            Self::Store(_) => Some(STORE_FAILED.into()),
            Self::Remembered(error) => Some(error.explain(words)),
            Self::Queue(_) | Self::Abandoned(_) | Self::TooLarge { .. } | Self::Forest(_) => {
                Some(self.to_string())
            }
            Self::Closure(_) | Self::Undescribable(_) => None,
        };
        message.unwrap_or_else(|| {
            "the image could not be built; its operator finds the reason in the log".into()
        })
    }
}
