//! What can stop a build, and what clients are told about it.

use crate::{
    audience::Abandoned,
    nix::{Obstacle, ProcessError, RealiseError, RequisitesError, ResolveError},
    package_set::{RepositoryError, RevisionError},
    packing::PackError,
    queue::QueueError,
    store::{BudgetSpent, StoreError},
};
use firn_shared::{
    StorePath,
    composition::Undescribable,
    image::{BlueprintError, forest::ForestError, selection::SelectionError},
    naming::{package::Words, package_name::PackageName},
    nix::closure::ClosureError,
    oci::error::{ErrorCode, OciError},
};
use std::error::Error;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

/// What a client is told of a panic.
pub(crate) const DEFECT: &str = "a defect in Firn; its operator finds the reason in the log";

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The tag has no revision.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// The package set changed while it was evaluated, several times in a row.
    #[error("the package set keeps changing")]
    Moving,
    /// Names could not be resolved.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Packages cannot be had.
    #[error("{}", .0.to_oci_error(Words::Shown).message)]
    Selection(SelectionError),
    /// The same, where it was not found out in time what the names may have meant.
    #[error("{}", .0.to_oci_error(Words::Shown).message)]
    Unsuggested(SelectionError),
    /// Store paths could not be made.
    #[error(transparent)]
    Realise(#[from] RealiseError),
    /// Closures could not be read.
    #[error(transparent)]
    Requisites(#[from] RequisitesError),
    /// Closures contradict each other.
    #[error(transparent)]
    Closure(#[from] ClosureError),
    /// Packages have too much in common.
    #[error(transparent)]
    Forest(#[from] ForestError),
    /// A closure is not whole.
    #[error(transparent)]
    Undescribable(#[from] Undescribable),
    /// A store path could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A store path that was there once is gone.
    #[error("{0} is gone from the Nix store")]
    Vanished(StorePath),
    /// A store path lacks something that it had once: it is being deleted, or that was interrupted.
    #[error("{0}, or another path of its layer, is not whole in the Nix store")]
    Incomplete(StorePath),
    /// A store path has other bytes than when it was recorded: it was built again since.
    #[error("{0} has another content in the Nix store than on record")]
    OtherContent(StorePath),
    /// The image would be larger than the operator allows.
    #[error("the image holds {} MiB, and this registry allows {} MiB", size >> 20, limit >> 20)]
    TooLarge {
        /// Its closure's NAR size, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A layer could not be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// State could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many images are waiting already. Nobody but the client that asked is told.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Evaluating took all the time that there is for an image, or one name after the other failed.
    #[error(
        "its packages cannot all be evaluated within the {} s that this registry allows for an image; to see which of \
         them takes long, pull them one by one: {}",
        limit.as_secs(),
        names.iter().map(PackageName::as_str).collect::<Vec<_>>().join(", ")
    )]
    Undecided {
        /// The time, for all of them together.
        limit: Duration,
        /// Those that were not evaluated.
        names: Vec<PackageName>,
    },
    /// Nobody waited for it any more when it was to begin.
    #[error(transparent)]
    Abandoned(#[from] Abandoned),
    /// Another build, which was packing a layer of this one, failed.
    #[error("a layer that another build was packing failed")]
    Shared(#[source] std::sync::Arc<BuildError>),
}

impl From<SelectionError> for BuildError {
    fn from(error: SelectionError) -> Self {
        Self::Selection(error)
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

/// An error with everything that caused it, for logs.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

impl BuildError {
    /// Whether the next attempt would fail alike, so that it is not worth making at once.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Selection(_)
            | Self::Resolve(ResolveError::Unloadable { .. })
            | Self::Undecided { .. }
            | Self::TooLarge { .. }
            | Self::Forest(_)
            | Self::Pack(PackError::Whiteout { .. })
            | Self::Realise(RealiseError::Process(
                ProcessError::Timeout { .. } | ProcessError::Memory { .. },
            )) => true,
            Self::Shared(error) => error.is_lasting(),
            _ => false,
        }
    }

    /// Whether nobody waited for it any more before it began.
    pub fn is_abandoned(&self) -> bool {
        matches!(
            self,
            Self::Abandoned(_)
                | Self::Revision(RevisionError::Abandoned(_))
                | Self::Resolve(ResolveError::Abandoned(_))
                | Self::Realise(RealiseError::Abandoned(_))
        )
    }

    /// Whether a store path was gone, or another, when it was to be packed; realising it again and looking at what
    /// that gives helps.
    pub fn is_vanished(&self) -> bool {
        match self {
            Self::Vanished(_) | Self::Incomplete(_) | Self::OtherContent(_) => true,
            Self::Pack(PackError::Read { source, .. }) => source.kind() == std::io::ErrorKind::NotFound,
            Self::Shared(error) => error.is_vanished(),
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

    /// What the client sees. What it can act on is told; the rest is in the log.
    pub fn to_oci_error_with(&self, words: Words) -> OciError {
        let unavailable = |message: &str| OciError::new(ErrorCode::Unavailable, message).retry_after(10);
        if self.is_for_want_of_space() {
            return unavailable("this registry has no space left for new images; try again later");
        }
        match self {
            Self::Revision(RevisionError::Select(error)) => {
                OciError::new(ErrorCode::ManifestUnknown, error.to_string())
            }
            Self::Revision(RevisionError::Git(error)) => match error {
                RepositoryError::NoSuchRef(_)
                | RepositoryError::NoSuchCommit
                | RepositoryError::TooLarge(_) => {
                    OciError::new(ErrorCode::ManifestUnknown, error.to_string())
                }
                RepositoryError::Unreachable(_) => unavailable("the package repository cannot be reached"),
                RepositoryError::Slow(_) => unavailable(&error.to_string()),
                RepositoryError::Disk(_) => unavailable(
                    "the package set cannot be stored at the moment; the operator finds the reason in the log",
                ),
            },
            Self::Revision(RevisionError::Path(_)) => unavailable("the package set cannot be read"),
            Self::Moving => unavailable("the package set keeps changing; ask again when it has settled"),
            Self::Queue(error @ QueueError::Closed)
            | Self::Revision(RevisionError::Queue(error @ QueueError::Closed)) => {
                unavailable(&error.to_string())
            }
            // Also where all places are taken: a client that has fewer than others may be given one of theirs.
            Self::Queue(error) => {
                OciError::new(ErrorCode::Toomanyrequests, error.to_string()).retry_after(10).of_client_quota()
            }
            Self::Revision(RevisionError::Queue(_)) => {
                let message = "too many branches and tags are being looked up; ask again in a moment";
                OciError::new(ErrorCode::Toomanyrequests, message).retry_after(10).of_client_quota()
            }
            Self::Abandoned(abandoned)
            | Self::Resolve(ResolveError::Abandoned(abandoned))
            | Self::Realise(RealiseError::Abandoned(abandoned))
            | Self::Revision(RevisionError::Abandoned(abandoned)) => {
                OciError::new(ErrorCode::Toomanyrequests, abandoned.to_string()).retry_after(1)
            }
            Self::Selection(error) | Self::Unsuggested(error) => error.to_oci_error(words),
            Self::Resolve(error @ ResolveError::Unloadable { restricted, .. }) => {
                let message = if *restricted {
                    "at this revision the package set reads files outside of it or downloads something while it is \
                     evaluated, which this registry allows only at the revision that the tag latest names"
                        .to_owned()
                } else if let Some(version) = error.required_nix() {
                    format!(
                        "at this revision the package set needs Nix {version}, and this registry has an older one"
                    )
                } else {
                    error.to_string()
                };
                OciError::new(ErrorCode::ManifestUnknown, message)
            }
            Self::Resolve(
                error @ ResolveError::Process(ProcessError::Failed { .. } | ProcessError::Timeout { .. }),
            ) => match error.required_nix() {
                Some(version) => unavailable(&format!(
                    "the package set cannot be loaded: it needs Nix {version}, and this registry has an older one"
                )),
                None => {
                    unavailable("the package set cannot be loaded; its operator finds the reason in the log")
                }
            },
            Self::Resolve(ResolveError::Process(ProcessError::Ended { .. }))
            | Self::Realise(RealiseError::Process(ProcessError::Ended { .. }))
            | Self::Requisites(RequisitesError::Process(ProcessError::Ended { .. })) => {
                unavailable("Nix was interrupted; pull again")
            }
            Self::Realise(RealiseError::Process(ProcessError::Timeout { limit, .. })) => OciError::new(
                ErrorCode::ManifestUnknown,
                format!("building took longer than the {} s that this registry allows", limit.as_secs()),
            ),
            Self::Realise(RealiseError::Process(ProcessError::Memory { limit, .. })) => OciError::new(
                ErrorCode::ManifestUnknown,
                format!("building took more memory than the {} MiB that this registry allows", limit >> 20),
            ),
            Self::TooLarge { .. }
            | Self::Undecided { .. }
            | Self::Forest(_)
            | Self::Pack(PackError::Whiteout { .. }) => {
                OciError::new(ErrorCode::ManifestUnknown, self.to_string())
            }
            Self::Realise(
                RealiseError::Process(ProcessError::Failed { .. }) | RealiseError::Hopeless { .. },
            ) => unavailable("Nix cannot build at the moment; the operator finds the reason in the log"),
            Self::Resolve(ResolveError::Process(ProcessError::Hindered {
                obstacle: Obstacle::Network,
                ..
            })) => unavailable(
                "what the package set downloads cannot be reached; its operator finds the reason in the log",
            ),
            Self::Resolve(ResolveError::Process(ProcessError::Hindered { .. })) => {
                unavailable("Nix has no space left; the operator finds the reason in the log")
            }
            Self::Realise(RealiseError::Passing { obstacle, .. }) => unavailable(match obstacle {
                Obstacle::Network => {
                    "a build failed for want of network; the operator finds the reason in the log"
                }
                Obstacle::Space => {
                    "a build failed for want of space; the operator finds the reason in the log"
                }
                Obstacle::Ended => "a build was interrupted; pull again",
            }),
            Self::Shared(error) => error.to_oci_error_with(words),
            Self::Store(_) | Self::Pack(PackError::Write(_)) => unavailable(
                "this registry's storage does not work at the moment; its operator finds the reason in the log",
            ),
            Self::Resolve(_)
            | Self::Realise(RealiseError::Process(_))
            | Self::Vanished(_)
            | Self::Incomplete(_)
            | Self::OtherContent(_)
            | Self::Requisites(_)
            | Self::Closure(_)
            | Self::Undescribable(_)
            | Self::Read { .. }
            | Self::Pack(_) => OciError::new(
                ErrorCode::Internal,
                "the image could not be built; its operator finds the reason in the log",
            ),
        }
    }
}
