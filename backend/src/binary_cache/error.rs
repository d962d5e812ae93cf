//! What can go wrong with binary caches.

use super::transport::TransportError;
use firn_shared::StorePath;
use std::io;

/// Why it is unknown what binary caches have.
#[derive(Debug, thiserror::Error)]
pub enum BinaryCacheError {
    /// An HTTP client or a client of a bucket cannot be made.
    #[error("the binary cache {cache} cannot be used")]
    Client {
        /// The cache.
        cache: String,
        /// The cause.
        source: TransportError,
    },
    /// No cache has the path, but one of them did not answer, or answered what it should not.
    #[error("the binary cache {cache} cannot tell whether it has {path}")]
    Unknown {
        /// The path that was asked for.
        path: StorePath,
        /// The cache that failed.
        cache: String,
        /// Why.
        source: CacheFailure,
    },
}

impl BinaryCacheError {
    /// The message for clients. It says no more of the cache than that it fails, and how.
    pub fn explain(&self) -> String {
        let reason = match self {
            Self::Client { .. } => "it cannot be used",
            Self::Unknown { source, .. } => source.explain(),
        };
        format!("a binary cache that this registry downloads from fails: {reason}; {ASK_AGAIN}")
    }
}

/// What clients can do about a cache.
const ASK_AGAIN: &str = "pull again later, its operator finds more in the log";

impl CacheFailure {
    fn explain(&self) -> &'static str {
        match self {
            Self::Transport(TransportError::Slow) => "it is too slow",
            Self::Transport(TransportError::Status { .. }) => "it refuses to answer",
            Self::Transport(_) => "it cannot be reached",
            Self::SetAside(_) => "it failed a moment ago",
            Self::NoCache | Self::OtherStore(_) => "it is no binary cache for this registry",
            Self::Malformed(_) | Self::OtherPath(_) => "it describes a store path wrongly",
            Self::Unsigned => "its description of a store path lacks the signature of a trusted key",
        }
    }
}

/// What is wrong with a cache, or with its answer about a path.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheFailure {
    /// It does not answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It failed a moment ago, so it was not asked again.
    #[error("it failed a moment ago: {0}")]
    SetAside(String),
    /// It has no `/nix-cache-info`.
    #[error("it has no nix-cache-info, so it is no binary cache")]
    NoCache,
    /// It has the paths of another Nix store.
    #[error("it has paths of {0}, not of /nix/store")]
    OtherStore(String),
    /// Its narinfo is malformed.
    #[error("its narinfo is malformed: {0}")]
    Malformed(String),
    /// Its narinfo is about another path.
    #[error("its narinfo is about {0}")]
    OtherPath(StorePath),
    /// No trusted key has signed the narinfo.
    #[error("no trusted key has signed its narinfo")]
    Unsigned,
}

/// Why the content of a store path could not be read to its end from a binary cache.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NarError {
    /// No cache delivered it. The reasons are those of each cache.
    #[error("no binary cache delivers {path}: {reasons}")]
    Unavailable {
        /// The store path.
        path: StorePath,
        /// What each cache did wrong.
        reasons: String,
    },
    /// The caches that had it do not have it any more.
    #[error("no binary cache has {path} any more: {reasons}")]
    Gone {
        /// The store path.
        path: StorePath,
        /// What each cache said.
        reasons: String,
    },
    /// What a cache delivered is not what its narinfo says. What was read of it must be discarded.
    #[error("the binary cache {cache} delivered something else than {path}: {reason}")]
    Wrong {
        /// The store path.
        path: StorePath,
        /// The cache.
        cache: String,
        /// What is wrong.
        reason: String,
        /// Whether there is another cache to read it from: then it helps to read it anew.
        has_other: bool,
    },
}

impl NarError {
    /// The message for clients.
    pub fn explain(&self) -> String {
        let what = match self {
            Self::Unavailable { .. } | Self::Gone { .. } => {
                "no binary cache delivers a store path of this image"
            }
            Self::Wrong { .. } => "a binary cache delivers something else than it has described",
        };
        format!("{what}; {ASK_AGAIN}")
    }

    /// The error of a binary cache that ended packing, if it was one.
    pub fn of(error: &crate::packing::PackingError) -> Option<&Self> {
        match error {
            crate::packing::PackingError::Read { source, .. } => source.get_ref()?.downcast_ref(),
            _ => None,
        }
    }

    /// The cache that did not deliver what another one may deliver, so that packing should be tried anew.
    pub fn to_be_replaced(&self) -> Option<&str> {
        match self {
            Self::Wrong { cache, has_other: true, .. } => Some(cache),
            _ => None,
        }
    }

    /// The path that no cache has any more.
    pub fn gone(&self) -> Option<&StorePath> {
        match self {
            Self::Gone { path, .. } => Some(path),
            _ => None,
        }
    }
}

impl From<NarError> for io::Error {
    fn from(error: NarError) -> Self {
        Self::other(error)
    }
}
