//! Whose code a revision is, and what follows from it.

use firn_shared::{cache_key::CacheKey, naming::package::Words};

/// Who decided that a revision is evaluated here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The operator: `latest` names the revision, or has named it, or callers choose nothing.
    Operator,
    /// A caller, so that anybody may have written it. It is evaluated under restrictions, and its words are not shown.
    Caller,
}

impl Trust {
    /// Whether answers may hold the words of the revision.
    pub fn words(self) -> Words {
        match self {
            Self::Operator => Words::Shown,
            Self::Caller => Words::Hidden,
        }
    }

    /// Under which key a failure is remembered, or a build that may fail is found, of what has this key. What fails
    /// under restrictions may succeed without them. With one key for both, a caller that asks first would decide what
    /// `latest` gives.
    pub(crate) fn failure_key(self, key: CacheKey) -> CacheKey {
        match self {
            Self::Operator => key,
            Self::Caller => CacheKey::builder("restricted-1").field(key.as_bytes()).build(),
        }
    }
}
