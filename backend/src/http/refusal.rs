//! Which error of the registry each error of Firn is. The message is defined with the error (`explain`).
//!
//! Docker shows the message of a 4xx and hides that of a 5xx. So an error that a client can act on is a 404, and so is one
//! that the next attempt would repeat. An error that may be over soon is a 503.

use crate::{
    binary_cache::NarError,
    error_chain::chain,
    images::BuildError,
    layers::LayerError,
    nix::{ProcessError, RealiseError, RequisitesError, ResolveError},
    package_set::{RepositoryError, RevisionError},
    packages::PackageError,
    packing::PackingError,
    store::StoreError,
    store_paths::StorePathError,
    waiting::QueueError,
};
use firn_shared::{
    naming::package::Words,
    oci::error::{ErrorCode, OciError},
};

/// Seconds after which clients may try again.
const RETRY_SECONDS: u32 = 10;

/// The error of the registry.
pub(crate) fn refusal(error: &BuildError, words: Words) -> OciError {
    let kind = if error.is_for_want_of_space() { Kind::Passing } else { Kind::of(error) };
    let new = |code| OciError::new(code, error.explain(words));
    match kind {
        Kind::UnknownName => new(ErrorCode::NameUnknown),
        Kind::Lasting => new(ErrorCode::ManifestUnknown),
        Kind::Passing => new(ErrorCode::Unavailable).retry_after(RETRY_SECONDS),
        // Also where all places are taken: a client that has fewer than others may be given one of theirs.
        Kind::Quota => new(ErrorCode::Toomanyrequests).retry_after(RETRY_SECONDS).of_client_quota(),
        Kind::Abandoned => new(ErrorCode::Toomanyrequests).retry_after(1),
        Kind::Defect => new(ErrorCode::Internal),
    }
}

/// What an error means for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The package set has no such name.
    UnknownName,
    /// The next attempt would fail in the same way.
    Lasting,
    /// It may be over soon.
    Passing,
    /// This client has used up what it may.
    Quota,
    /// No client waited any more.
    Abandoned,
    /// Something that should not happen.
    Defect,
}

impl Kind {
    fn of(error: &BuildError) -> Self {
        match error {
            BuildError::Packages(error) => Self::of_packages(error),
            BuildError::Layers(error) => Self::of_layers(error),
            BuildError::Queue(error) => Self::of_queue(*error),
            BuildError::Abandoned(_) => Self::Abandoned,
            BuildError::TooLarge { .. } | BuildError::Forest(_) => Self::Lasting,
            BuildError::Remembered(error) => Self::of(error),
            BuildError::Store(_) => Self::Passing,
            BuildError::Closure(_) | BuildError::Undescribable(_) => Self::Defect,
        }
    }

    fn of_packages(error: &PackageError) -> Self {
        match error {
            PackageError::Selection(error) | PackageError::Unsuggested(error) if error.is_unknown_name() => {
                Self::UnknownName
            }
            PackageError::Selection(_)
            | PackageError::Unsuggested(_)
            | PackageError::Undecided { .. }
            | PackageError::TooManyDerivations { .. } => Self::Lasting,
            PackageError::StorePaths(error) => Self::of_store_paths(error),
            PackageError::Revision(error) => Self::of_revision(error),
            PackageError::Resolve(error) => Self::of_resolve(error),
            PackageError::Realise(error) => Self::of_realise(error),
            PackageError::Requisites(error) => Self::of_requisites(error),
            PackageError::Moving | PackageError::Store(_) => Self::Passing,
            PackageError::Read { .. } => Self::Defect,
        }
    }

    fn of_layers(error: &LayerError) -> Self {
        match error {
            LayerError::Packing(PackingError::Whiteout { .. }) => Self::Lasting,
            LayerError::Packing(PackingError::Write(_)) | LayerError::Store(_) => Self::Passing,
            LayerError::Requisites(error) => Self::of_requisites(error),
            LayerError::StorePaths(error) => Self::of_store_paths(error),
            LayerError::Packing(error) if NarError::of(error).is_some() => Self::Passing,
            LayerError::Shared(error) => Self::of_layers(error),
            LayerError::Vanished(_)
            | LayerError::Incomplete(_)
            | LayerError::OtherContent(_)
            | LayerError::Packing(_) => Self::Defect,
        }
    }

    fn of_store_paths(error: &StorePathError) -> Self {
        match error {
            StorePathError::Store(_) => Self::Passing,
            error if error.is_of_caches() => Self::Passing,
            StorePathError::Caches(_) | StorePathError::Tree(_) => Self::Defect,
        }
    }

    fn of_revision(error: &RevisionError) -> Self {
        match error {
            RevisionError::Select(_)
            | RevisionError::Git(
                RepositoryError::NoSuchRef(_) | RepositoryError::NoSuchCommit | RepositoryError::TooLarge(_),
            ) => Self::Lasting,
            RevisionError::Git(_) | RevisionError::Path(_) => Self::Passing,
            RevisionError::Queue(error) => Self::of_queue(*error),
            RevisionError::Abandoned(_) => Self::Abandoned,
        }
    }

    fn of_resolve(error: &ResolveError) -> Self {
        match error {
            ResolveError::Unloadable { .. } => Self::Lasting,
            ResolveError::Abandoned(_) => Self::Abandoned,
            ResolveError::Process(
                ProcessError::Failed { .. }
                | ProcessError::Timeout { .. }
                | ProcessError::Ended { .. }
                | ProcessError::Hindered { .. },
            ) => Self::Passing,
            ResolveError::Process(_) | ResolveError::Answer(_) => Self::Defect,
        }
    }

    fn of_realise(error: &RealiseError) -> Self {
        match error {
            RealiseError::Abandoned(_) => Self::Abandoned,
            RealiseError::Process(ProcessError::Timeout { .. } | ProcessError::Memory { .. }) => {
                Self::Lasting
            }
            RealiseError::Process(ProcessError::Failed { .. } | ProcessError::Ended { .. })
            | RealiseError::Hopeless { .. }
            | RealiseError::Passing { .. } => Self::Passing,
            RealiseError::Process(_) => Self::Defect,
        }
    }

    fn of_requisites(error: &RequisitesError) -> Self {
        match error {
            RequisitesError::Process(ProcessError::Ended { .. }) => Self::Passing,
            _ => Self::Defect,
        }
    }

    fn of_queue(error: QueueError) -> Self {
        match error {
            QueueError::Closed => Self::Passing,
            _ => Self::Quota,
        }
    }
}

/// Logs an error that no build reports, and returns the error for the client.
pub(super) fn refuse(error: BuildError, words: Words) -> OciError {
    let refusal = refusal(&error, words);
    if refusal.status() >= 500 {
        tracing::error!(error = %chain(&error), "request failed");
    }
    refusal
}

/// The same for an error of the store, which has no words of the package set.
pub(super) fn refuse_storage(error: StoreError) -> OciError {
    refuse(BuildError::Store(error), Words::Hidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting::Abandoned;
    use firn_shared::naming::package::{PackageProblem, ProblemKind};
    use std::io::{self, ErrorKind};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn clients_learn_whether_to_ask_again() {
        use ErrorCode::{Internal, ManifestUnknown, NameUnknown, Toomanyrequests, Unavailable};
        let selection = |kind| {
            let problem = PackageProblem::new(kind, "is marked as broken");
            firn_shared::image::selection::SelectionError(vec![("gti".parse().expect("a name"), problem)])
        };
        let read = |kind: ErrorKind| {
            BuildError::Packages(PackageError::Read { path: "/nix/store/x".into(), source: kind.into() })
        };
        let revision = |error| BuildError::Packages(PackageError::Revision(RevisionError::Git(error)));
        let slow = || revision(RepositoryError::Slow(Duration::from_secs(7)));
        let check = |error: BuildError, code, retry_after, message: &str| {
            let refusal = refusal(&error, Words::Shown);
            assert_eq!((refusal.code, refusal.retry_after_seconds), (code, retry_after), "{error:?}");
            assert_eq!(refusal.message, message);
            let of_client = matches!(error, BuildError::Queue(QueueError::Full | QueueError::Share(_)));
            assert_eq!(refusal.is_of_client_quota(), of_client, "{error:?}");
            // A client that asks again while the failure is remembered is told the same.
            assert_eq!(super::refusal(&BuildError::Remembered(Arc::new(error)), Words::Shown), refusal);
        };
        check(
            PackageError::Selection(selection(ProblemKind::NotFound)).into(),
            NameUnknown,
            None,
            "there is no package gti in the package set",
        );
        check(
            PackageError::Unsuggested(selection(ProblemKind::Broken)).into(),
            ManifestUnknown,
            None,
            "gti: is marked as broken",
        );
        check(
            BuildError::TooLarge { size: 5 << 20, limit: 1 << 20 },
            ManifestUnknown,
            None,
            "the image holds 5 MiB, and this registry allows 1 MiB",
        );
        check(
            BuildError::Queue(QueueError::Full),
            Toomanyrequests,
            Some(10),
            "too many images are waiting to be built; ask again in a moment",
        );
        check(
            BuildError::Queue(QueueError::Closed),
            Unavailable,
            Some(10),
            "this registry is being restarted; pull again",
        );
        check(BuildError::Abandoned(Abandoned), Toomanyrequests, Some(1), &Abandoned.to_string());
        check(slow(), Unavailable, Some(10), "fetching the package set took longer than 7 s");
        check(
            PackageError::Moving.into(),
            Unavailable,
            Some(10),
            "the package set keeps changing; ask again when it has settled",
        );
        // No path of the machine is told.
        check(
            read(ErrorKind::PermissionDenied),
            Internal,
            None,
            "the image could not be built; its operator finds the reason in the log",
        );
        check(
            read(ErrorKind::StorageFull),
            Unavailable,
            Some(10),
            "this registry has no space left for new images; try again later",
        );
        let unreachable = RepositoryError::Unreachable("fatal: could not read /root/.netrc".into());
        check(revision(unreachable), Unavailable, Some(10), "the package repository cannot be reached");
        let refusal = refuse(
            LayerError::from(PackingError::Write(io::Error::from(ErrorKind::Other))).into(),
            Words::Hidden,
        );
        assert_eq!(refusal.status(), 503);
    }
}
