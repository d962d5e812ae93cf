//! Store paths: `/nix/store/<32 base-32 characters>-<name>` (Nix manual, "Store Path").

use serde_with::{DeserializeFromStr, SerializeDisplay};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The Nix store, the directory of all store paths.
pub const STORE_DIR: &str = "/nix/store";

const HASH_LEN: usize = 32;
const MAX_NAME_LEN: usize = 211;
/// Nix's base-32 alphabet, which has no e, o, u and t.
const BASE32: &str = "0123456789abcdfghijklmnpqrsvwxyz";

/// The text is not a store path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a store path: {0:?}")]
pub struct ParseStorePathError(String);

/// A store path.
///
/// It is always absolute, directly below [`STORE_DIR`], with a well-formed hash and name. So it stays below the root of
/// any file system to which it is joined. Clones share the text, because closures repeat each path many times.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct StorePath(Arc<str>);

impl StorePath {
    /// The whole path, including `/nix/store/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component: hash, dash, name.
    pub fn base_name(&self) -> &str {
        &self.0[STORE_DIR.len() + 1..]
    }

    /// The 32 base-32 characters that identify the path.
    pub fn hash_part(&self) -> &str {
        &self.base_name()[..HASH_LEN]
    }

    /// The name after the hash, for example `git-2.39.5`.
    pub fn name(&self) -> &str {
        &self.base_name()[HASH_LEN + 1..]
    }

    /// Whether the path is a derivation (`.drv`), which does not go into images.
    pub fn is_derivation(&self) -> bool {
        self.0.ends_with(".drv")
    }
}

impl FromStr for StorePath {
    type Err = ParseStorePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = || {
            let base = text.strip_prefix(STORE_DIR)?.strip_prefix('/')?;
            let (hash, rest) = base.split_at_checked(HASH_LEN)?;
            let name = rest.strip_prefix('-')?;
            let hash_is_base32 = hash.chars().all(|c| BASE32.contains(c));
            let name_is_valid = (1..=MAX_NAME_LEN).contains(&name.len())
                && !matches!(name, "." | "..")
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b));
            (hash_is_base32 && name_is_valid).then_some(())
        };
        match valid() {
            Some(()) => Ok(Self(text.into())),
            None => Err(ParseStorePathError(text.chars().take(MAX_NAME_LEN).collect())),
        }
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorePath({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIT: &str = "/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-git-2.39.5";

    #[test]
    fn has_parts() {
        let path: StorePath = GIT.parse().expect("a store path");
        assert_eq!(path.hash_part(), "3pmppdlqjx4i0ww255kg6wjzlvg8shdc");
        assert_eq!(path.name(), "git-2.39.5");
        assert_eq!(path.to_string(), GIT);
        assert!(!path.is_derivation());
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            "/nix/store",
            "/nix/store/",
            "/nix/store/short-name",
            "/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc",
            "/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-",
            "/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-..",
            "/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-a/b",
            "/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-a\n",
            "/nix/store/epmppdlqjx4i0ww255kg6wjzlvg8shdc-vowel",
            "/nix/store/3PMPPDLQJX4I0WW255KG6WJZLVG8SHDC-upper",
            "nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-relative",
            "/nix/store/äääääääääääääääääääääääääääääääää-wide",
        ] {
            assert!(text.parse::<StorePath>().is_err(), "{text}");
        }
    }
}
