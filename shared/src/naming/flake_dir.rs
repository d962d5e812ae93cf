//! The directory of a flake in a package set.

use serde_with::{DeserializeFromStr, SerializeDisplay};
use std::fmt;
use std::str::FromStr;

/// The directory of `flake.nix` in a package set: names with slashes between them, none of which leads upwards. Empty for
/// the package set's own directory.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr,
)]
pub struct FlakeDir(Box<str>);

/// The text is no directory below another one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a directory in the flake")]
pub struct ParseFlakeDirError(String);

impl FlakeDir {
    /// The directory, without a slash at either end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FlakeDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FlakeDir {
    type Err = ParseFlakeDirError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.iter().any(|part| *part == ".." || part.contains(char::is_control)) {
            return Err(ParseFlakeDirError(text.chars().take(80).collect()));
        }
        Ok(Self(parts.join("/").into()))
    }
}
