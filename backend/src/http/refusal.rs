//! Which error of the registry an error of ours is for clients. What they are told is said where the error is defined.
//!
//! Docker shows the message of a 4xx and hides that of a 5xx. So what a client can act on is a 404, and so is what would
//! fail alike at the next attempt; what may pass is a 503.

use crate::{
    build::BuildError,
    nix::{ProcessError, RealiseError, RequisitesError, ResolveError},
    package_set::{RepositoryError, RevisionError},
    packing::PackError,
    queue::QueueError,
    store::StoreError,
};
use firn_shared::{
    naming::package::Words,
    oci::error::{ErrorCode, OciError},
};

/// When clients may ask again for what may have passed by then, in seconds.
const RETRY_SECONDS: u32 = 10;

/// The error of the registry.
pub(crate) fn refusal(error: &BuildError, words: Words) -> OciError {
    let new = |code| OciError::new(code, error.explain(words));
    let unavailable = || new(ErrorCode::Unavailable).retry_after(RETRY_SECONDS);
    if error.is_for_want_of_space() {
        return unavailable();
    }
    match error {
        BuildError::Shared(error) => refusal(error, words),
        BuildError::Selection(problems) | BuildError::Unsuggested(problems) => {
            new(if problems.is_unknown_name() { ErrorCode::NameUnknown } else { ErrorCode::ManifestUnknown })
        }
        BuildError::Revision(
            RevisionError::Select(_)
            | RevisionError::Git(
                RepositoryError::NoSuchRef(_) | RepositoryError::NoSuchCommit | RepositoryError::TooLarge(_),
            ),
        )
        | BuildError::Resolve(ResolveError::Unloadable { .. })
        | BuildError::Realise(RealiseError::Process(
            ProcessError::Timeout { .. } | ProcessError::Memory { .. },
        ))
        | BuildError::TooLarge { .. }
        | BuildError::Undecided { .. }
        | BuildError::Forest(_)
        | BuildError::Pack(PackError::Whiteout { .. }) => new(ErrorCode::ManifestUnknown),
        BuildError::Queue(QueueError::Closed)
        | BuildError::Revision(RevisionError::Queue(QueueError::Closed)) => unavailable(),
        // Also where all places are taken: a client that has fewer than others may be given one of theirs.
        BuildError::Queue(_) | BuildError::Revision(RevisionError::Queue(_)) => {
            new(ErrorCode::Toomanyrequests).retry_after(RETRY_SECONDS).of_client_quota()
        }
        BuildError::Abandoned(_)
        | BuildError::Resolve(ResolveError::Abandoned(_))
        | BuildError::Realise(RealiseError::Abandoned(_))
        | BuildError::Revision(RevisionError::Abandoned(_)) => new(ErrorCode::Toomanyrequests).retry_after(1),
        BuildError::Revision(
            RevisionError::Git(
                RepositoryError::Unreachable(_) | RepositoryError::Slow(_) | RepositoryError::Disk(_),
            )
            | RevisionError::Path(_),
        )
        | BuildError::Moving
        | BuildError::Resolve(ResolveError::Process(
            ProcessError::Failed { .. }
            | ProcessError::Timeout { .. }
            | ProcessError::Ended { .. }
            | ProcessError::Hindered { .. },
        ))
        | BuildError::Realise(
            RealiseError::Process(ProcessError::Failed { .. } | ProcessError::Ended { .. })
            | RealiseError::Hopeless { .. }
            | RealiseError::Passing { .. },
        )
        | BuildError::Requisites(RequisitesError::Process(ProcessError::Ended { .. }))
        | BuildError::Store(_)
        | BuildError::Pack(PackError::Write(_)) => unavailable(),
        BuildError::Resolve(_)
        | BuildError::Realise(RealiseError::Process(_))
        | BuildError::Vanished(_)
        | BuildError::Incomplete(_)
        | BuildError::OtherContent(_)
        | BuildError::Requisites(_)
        | BuildError::Closure(_)
        | BuildError::Undescribable(_)
        | BuildError::Read { .. }
        | BuildError::Pack(_) => new(ErrorCode::Internal),
    }
}

/// Logs an error that no build reports, and says what the client may know of it.
pub(super) fn refuse(error: BuildError, words: Words) -> OciError {
    let refusal = refusal(&error, words);
    if refusal.status() >= 500 {
        tracing::error!(error = %crate::build::chain(&error), "request failed");
    }
    refusal
}

/// The same, about storage: no words of the package set are in it.
pub(super) fn refuse_storage(error: StoreError) -> OciError {
    refuse(BuildError::Store(error), Words::Hidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::Abandoned;
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
        let read = |kind: ErrorKind| BuildError::Read { path: "/nix/store/x".into(), source: kind.into() };
        let slow = || BuildError::Revision(RevisionError::Git(RepositoryError::Slow(Duration::from_secs(7))));
        let check = |error: BuildError, code, retry_after, message: &str| {
            let refusal = refusal(&error, Words::Shown);
            assert_eq!((refusal.code, refusal.retry_after_seconds), (code, retry_after), "{error:?}");
            assert_eq!(refusal.message, message);
            let of_client = matches!(error, BuildError::Queue(QueueError::Full | QueueError::Share(_)));
            assert_eq!(refusal.is_of_client_quota(), of_client, "{error:?}");
            // Whoever joins a build that another client began learns the same.
            assert_eq!(super::refusal(&BuildError::Shared(Arc::new(error)), Words::Shown), refusal);
        };
        check(
            BuildError::Selection(selection(ProblemKind::NotFound)),
            NameUnknown,
            None,
            "there is no package gti in the package set",
        );
        check(
            BuildError::Unsuggested(selection(ProblemKind::Broken)),
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
            BuildError::Moving,
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
        check(
            BuildError::Revision(RevisionError::Git(unreachable)),
            Unavailable,
            Some(10),
            "the package repository cannot be reached",
        );
        let refusal =
            refuse(BuildError::Pack(PackError::Write(io::Error::from(ErrorKind::Other))), Words::Hidden);
        assert_eq!(refusal.status(), 503);
    }
}
