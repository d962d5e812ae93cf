//! Package names: the components of an image name that name packages.

use crate::oci::repository_name::{MAX_NAME_LEN, is_component};
use serde_with::{DeserializeFromStr, SerializeDisplay};
use std::fmt;
use std::str::FromStr;

/// A Nix attribute path in lower case, its attributes separated by dots, with an optional output as suffix:
/// `git`, `python3packages.requests`, `openssl.dev`.
///
/// It is always one component of the OCI name grammar, `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` (distribution spec,
/// "Pulling manifests"): no quotes, no `$`, no `/`, no leading dash or underscore. Nix nevertheless receives it only as
/// a JSON string.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct PackageName(Box<str>);

/// The greatest number of attributes in a name, including an output. Package sets contain each other without end
/// (`pkgsMusl.pkgsMusl`, `python3.pkgs.python.pkgs`), and each such name would cost an evaluation and an image.
pub const MAX_PARTS: usize = 4;

/// Why a component is not a package name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePackageNameError {
    /// There is nothing between two slashes.
    #[error("there is an empty component in the image name")]
    Empty,
    /// The name is longer than an image name may be ([`MAX_NAME_LEN`]).
    #[error("a package name has at most {MAX_NAME_LEN} characters, this one has {0}")]
    Length(usize),
    /// The name has more parts than [`MAX_PARTS`].
    #[error("a package name has at most {MAX_PARTS} parts separated by dots, {0:?} has more")]
    Depth(String),
    /// The name has an upper-case letter.
    #[error("image names are lower case: write {0:?}; it finds camelCase attributes too")]
    UpperCase(String),
    /// The name does not follow the grammar.
    #[error(
        "{0:?} is not a package name: letters a-z and digits, with single '.', '_', '__' or dashes between them"
    )]
    Grammar(String),
}

impl PackageName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageName {
    type Err = ParsePackageNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let quoted = || text.chars().take(80).collect::<String>();
        if text.is_empty() {
            Err(ParsePackageNameError::Empty)
        } else if text.len() > MAX_NAME_LEN {
            Err(ParsePackageNameError::Length(text.len()))
        } else if is_component(text) && text.split('.').count() > MAX_PARTS {
            Err(ParsePackageNameError::Depth(quoted()))
        } else if is_component(text) {
            Ok(Self(text.into()))
        } else if is_component(&text.to_ascii_lowercase()) {
            Err(ParsePackageNameError::UpperCase(quoted().to_ascii_lowercase()))
        } else {
            Err(ParsePackageNameError::Grammar(quoted()))
        }
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
