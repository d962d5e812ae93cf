//! What can stop a build, and what clients are told about it.

use crate::{
    layers::{LayerError, packing::PackingError},
    nix::{Obstacle, ProcessError, RealiseError, RequisitesError, ResolveError},
    package_set::{RepositoryError, RevisionError},
    packages::PackageError,
    store::{BudgetSpent, StoreError},
    waiting::{Abandoned, QueueError},
};
use firn_shared::{
    composition::Undescribable,
    image::{BlueprintError, forest::ForestError, selection::SelectionError},
    naming::package::Words,
    nix::closure::ClosureError,
    oci::error::{ErrorCode, OciError},
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
    fn is_for_want_of_space(&self) -> bool {
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

    /// What any client sees, whoever wrote the package set.
    pub fn to_oci_error(&self) -> OciError {
        self.to_oci_error_with(Words::Hidden)
    }

    /// What the client sees. It is told what it can act on; the rest is in the log.
    pub fn to_oci_error_with(&self, words: Words) -> OciError {
        if self.is_for_want_of_space() {
            return unavailable("this registry has no space left for new images; try again later");
        }
        match self {
            Self::Packages(error) => of_packages(error, words),
            Self::Layers(error) => of_layers(error),
            Self::Queue(error) => of_queue(*error),
            Self::Abandoned(error) => of_abandoned(*error),
            Self::TooLarge { .. } | Self::Forest(_) => {
                OciError::new(ErrorCode::ManifestUnknown, self.to_string())
            }
            Self::Remembered(error) => error.to_oci_error_with(words),
            Self::Store(_) => of_store(),
            Self::Closure(_) | Self::Undescribable(_) => internal(),
        }
    }
}

fn of_packages(error: &PackageError, words: Words) -> OciError {
    match error {
        PackageError::Revision(error) => of_revision(error),
        PackageError::Moving => unavailable("the package set keeps changing; ask again when it has settled"),
        PackageError::Selection(error) | PackageError::Unsuggested(error) => error.to_oci_error(words),
        PackageError::Resolve(error) => of_resolve(error),
        PackageError::Realise(error) => of_realise(error),
        PackageError::Requisites(error) => of_requisites(error),
        PackageError::Undecided { .. } => OciError::new(ErrorCode::ManifestUnknown, error.to_string()),
        PackageError::Store(_) => of_store(),
        PackageError::Read { .. } => internal(),
    }
}

fn of_layers(error: &LayerError) -> OciError {
    match error {
        LayerError::Packing(error @ PackingError::Whiteout { .. }) => {
            OciError::new(ErrorCode::ManifestUnknown, error.to_string())
        }
        LayerError::Packing(PackingError::Write(_)) | LayerError::Store(_) => of_store(),
        LayerError::Requisites(error) => of_requisites(error),
        LayerError::Shared(error) => of_layers(error),
        LayerError::Vanished(_)
        | LayerError::Incomplete(_)
        | LayerError::OtherContent(_)
        | LayerError::Packing(_) => internal(),
    }
}

fn of_revision(error: &RevisionError) -> OciError {
    match error {
        RevisionError::Select(error) => OciError::new(ErrorCode::ManifestUnknown, error.to_string()),
        RevisionError::Git(
            RepositoryError::NoSuchRef(_) | RepositoryError::NoSuchCommit | RepositoryError::TooLarge(_),
        ) => OciError::new(ErrorCode::ManifestUnknown, error.to_string()),
        RevisionError::Git(RepositoryError::Unreachable(_)) => {
            unavailable("the package repository cannot be reached")
        }
        RevisionError::Git(RepositoryError::Slow(_)) => unavailable(&error.to_string()),
        RevisionError::Git(RepositoryError::Disk(_)) => unavailable(
            "the package set cannot be stored at the moment; the operator finds the reason in the log",
        ),
        RevisionError::Path(_) => unavailable("the package set cannot be read"),
        RevisionError::Queue(error @ QueueError::Closed) => unavailable(&error.to_string()),
        RevisionError::Queue(_) => {
            let message = "too many branches and tags are being looked up; ask again in a moment";
            OciError::new(ErrorCode::Toomanyrequests, message).retry_after(10).of_client_quota()
        }
        RevisionError::Abandoned(error) => of_abandoned(*error),
    }
}

fn of_resolve(error: &ResolveError) -> OciError {
    match error {
        ResolveError::Unloadable { restricted: true, .. } => OciError::new(
            ErrorCode::ManifestUnknown,
            "at this revision the package set reads files outside of it or downloads something while it is evaluated, \
             which this registry allows only at the revision that the tag latest names",
        ),
        ResolveError::Unloadable { .. } => OciError::new(ErrorCode::ManifestUnknown, error.to_string()),
        ResolveError::Abandoned(error) => of_abandoned(*error),
        ResolveError::Process(ProcessError::Failed { .. } | ProcessError::Timeout { .. }) => {
            unavailable("the package set cannot be loaded; its operator finds the reason in the log")
        }
        ResolveError::Process(ProcessError::Ended { .. }) => interrupted(),
        ResolveError::Process(ProcessError::Hindered { obstacle: Obstacle::Network, .. }) => unavailable(
            "what the package set downloads cannot be reached; its operator finds the reason in the log",
        ),
        ResolveError::Process(ProcessError::Hindered { .. }) => {
            unavailable("Nix has no space left; the operator finds the reason in the log")
        }
        ResolveError::Process(_) | ResolveError::Answer(_) => internal(),
    }
}

fn of_realise(error: &RealiseError) -> OciError {
    match error {
        RealiseError::Abandoned(error) => of_abandoned(*error),
        RealiseError::Process(ProcessError::Ended { .. }) => interrupted(),
        RealiseError::Process(ProcessError::Timeout { limit, .. }) => OciError::new(
            ErrorCode::ManifestUnknown,
            format!("building took longer than the {} s that this registry allows", limit.as_secs()),
        ),
        RealiseError::Process(ProcessError::Memory { limit, .. }) => OciError::new(
            ErrorCode::ManifestUnknown,
            format!("building took more memory than the {} MiB that this registry allows", limit >> 20),
        ),
        RealiseError::Process(ProcessError::Failed { .. }) | RealiseError::Hopeless { .. } => {
            unavailable("Nix cannot build at the moment; the operator finds the reason in the log")
        }
        RealiseError::Passing { obstacle, .. } => unavailable(match obstacle {
            Obstacle::Network => {
                "a build failed for want of network; the operator finds the reason in the log"
            }
            Obstacle::Space => "a build failed for want of space; the operator finds the reason in the log",
            Obstacle::Ended => "a build was interrupted; pull again",
        }),
        RealiseError::Process(_) => internal(),
    }
}

fn of_requisites(error: &RequisitesError) -> OciError {
    match error {
        RequisitesError::Process(ProcessError::Ended { .. }) => interrupted(),
        _ => internal(),
    }
}

fn of_queue(error: QueueError) -> OciError {
    match error {
        QueueError::Closed => unavailable(&error.to_string()),
        // Also where all places are taken: a client that has fewer than others may be given one of theirs.
        _ => OciError::new(ErrorCode::Toomanyrequests, error.to_string()).retry_after(10).of_client_quota(),
    }
}

fn of_abandoned(error: Abandoned) -> OciError {
    OciError::new(ErrorCode::Toomanyrequests, error.to_string()).retry_after(1)
}

fn of_store() -> OciError {
    unavailable(
        "this registry's storage does not work at the moment; its operator finds the reason in the log",
    )
}

fn interrupted() -> OciError {
    unavailable("Nix was interrupted; pull again")
}

fn unavailable(message: &str) -> OciError {
    OciError::new(ErrorCode::Unavailable, message).retry_after(10)
}

fn internal() -> OciError {
    OciError::new(
        ErrorCode::Internal,
        "the image could not be built; its operator finds the reason in the log",
    )
}
