//! Who chose a revision, and what follows from it.

use firn_shared::{cache_key::CacheKey, naming::package::Words};

/// Who decided that a revision is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The operator: `latest` names the revision or named it before, or callers cannot choose revisions.
    Operator,
    /// A caller, so anybody may have written the code. It is evaluated under restrictions, and its messages are not
    /// shown.
    Caller,
}

impl Trust {
    /// Whether responses may contain text from the revision.
    pub fn words(self) -> Words {
        match self {
            Self::Operator => Words::Shown,
            Self::Caller => Words::Hidden,
        }
    }

    /// The key under which a failure, or a build that may fail, of the thing with this key is stored. What fails
    /// under restrictions may succeed without them. So there are two keys: otherwise the first caller would decide
    /// what `latest` returns.
    pub(crate) fn failure_key(self, key: CacheKey) -> CacheKey {
        match self {
            Self::Operator => key,
            Self::Caller => CacheKey::builder("restricted-1").field(key.as_bytes()).build(),
        }
    }
}
