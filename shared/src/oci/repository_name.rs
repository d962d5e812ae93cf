//! Names of repositories, as the grammar of the distribution spec has them.

use crate::oci::error::{ErrorCode, OciError};
use std::fmt;
use std::str::FromStr;

/// The longest name that clients accept, in bytes (distribution spec, "Pulling manifests").
pub const MAX_NAME_LEN: usize = 255;

/// A well-formed name, `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/…)*`, of at most [`MAX_NAME_LEN`] bytes
/// (distribution spec, "Pulling manifests").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Box<str>);

/// A text that no repository can be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an image name: components of lower-case letters and digits, joined by '.', '_', '__' or '-' and \
     separated by '/', at most {MAX_NAME_LEN} characters in all"
)]
pub struct ParseRepositoryNameError(String);

/// Whether a text is one component of the OCI name grammar, `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
pub(crate) fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !text.starts_with(alphanumeric) || !text.ends_with(alphanumeric) {
        return false;
    }
    // What stands between two runs of alphanumerics; two such runs touching give an empty separator.
    text.split(alphanumeric)
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

impl RepositoryName {
    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = ParseRepositoryNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() <= MAX_NAME_LEN && text.split('/').all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(ParseRepositoryNameError(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ParseRepositoryNameError> for OciError {
    fn from(error: ParseRepositoryNameError) -> Self {
        Self::new(ErrorCode::NameInvalid, error.to_string())
    }
}
