//! What can stop Firn from finding packages.

use crate::{
    nix::{ProcessError, RealiseError, RequisitesError, ResolveError},
    package_set::RevisionError,
    store::{STORE_FAILED, StoreError},
    store_paths::StorePathError,
};
use firn_shared::{
    image::selection::SelectionError,
    naming::{package::Words, package_name::PackageName},
};
use std::path::PathBuf;
use std::time::Duration;

/// Why the packages of an image are not known.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The tag has no revision, or the revision no files.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// The package set changed while it was evaluated, several times in a row.
    #[error("the package set keeps changing")]
    Moving,
    /// Nix gave no answer about the names.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// There are no such packages.
    #[error("{}", .0.explain(Words::Shown))]
    Selection(SelectionError),
    /// There are no such packages, and the search for similar names took too long.
    #[error("{}", .0.explain(Words::Shown))]
    Unsuggested(SelectionError),
    /// Nix could not build or download store paths.
    #[error(transparent)]
    Realise(#[from] RealiseError),
    /// Nix could not tell the closures.
    #[error(transparent)]
    Requisites(#[from] RequisitesError),
    /// Binary caches fail, or what store paths hold cannot be read.
    #[error(transparent)]
    StorePaths(#[from] StorePathError),
    /// More would have to be built than the operator allows.
    #[error(
        "{} needs {} derivations built, and this registry builds at most {limit} for an image; ask for what its binary caches \
         have, such as another version",
        names.iter().map(PackageName::as_str).collect::<Vec<_>>().join(", "),
        grouped(*count)
    )]
    TooManyDerivations {
        /// The names that no cache has.
        names: Vec<PackageName>,
        /// How many derivations they need.
        count: usize,
        /// How many may be built.
        limit: usize,
    },
    /// A store path could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Evaluating took all the time that there is for an image, or one name after the other failed.
    #[error(
        "its packages cannot all be evaluated within the {} s that this registry allows for an image; to see which of \
         them takes long, pull them one by one: {}",
        limit.as_secs(),
        names.iter().map(PackageName::as_str).collect::<Vec<_>>().join(", ")
    )]
    Undecided {
        /// The time for all names of the image together.
        limit: Duration,
        /// The names that were not evaluated.
        names: Vec<PackageName>,
    },
}

impl From<SelectionError> for PackageError {
    fn from(error: SelectionError) -> Self {
        Self::Selection(error)
    }
}

impl PackageError {
    /// The message for clients; `None` if there is nothing that they may know.
    pub fn explain(&self, words: Words) -> Option<String> {
        match self {
            Self::Revision(error) => Some(error.explain()),
            Self::Moving => Some("the package set keeps changing; ask again when it has settled".into()),
            Self::Selection(error) | Self::Unsuggested(error) => Some(error.explain(words)),
            Self::Resolve(error) => error.explain(),
            Self::Realise(error) => error.explain(),
            Self::Requisites(error) => error.explain(),
            Self::StorePaths(error) => error.explain(),
            Self::Undecided { .. } | Self::TooManyDerivations { .. } => Some(self.to_string()),
            Self::Store(_) => Some(STORE_FAILED.into()),
            Self::Read { .. } => None,
        }
    }

    /// Whether the next attempt would fail in the same way, so that Firn remembers the failure.
    pub fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Selection(_)
                | Self::Resolve(ResolveError::Unloadable { .. })
                | Self::Undecided { .. }
                | Self::TooManyDerivations { .. }
                | Self::Realise(RealiseError::Process(
                    ProcessError::Timeout { .. } | ProcessError::Memory { .. },
                ))
        )
    }

    /// Whether it did not begin because all clients had gone.
    pub fn is_abandoned(&self) -> bool {
        matches!(
            self,
            Self::Revision(RevisionError::Abandoned(_))
                | Self::Resolve(ResolveError::Abandoned(_))
                | Self::Realise(RealiseError::Abandoned(_))
        )
    }
}

/// A number with a comma between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        let texts = [0, 50, 999, 1204, 1_000_000].map(grouped);
        assert_eq!(texts, ["0", "50", "999", "1,204", "1,000,000"]);
    }
}
