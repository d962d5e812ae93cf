//! What a revision of a package set teaches about which store paths travel together.

use super::cotravel;
use crate::{Closure, StorePath, cache_key::CacheKey};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The groups in which the store paths of one revision travel, in the order of their layers.
///
/// It speaks of names (`git-2.39.5`), not of store paths, so that the profile of one revision still describes
/// most of the next. It is made from a whole package set and serves every image alike: that is what makes a
/// group of one image the same as that of another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct RevisionProfile {
    groups: Vec<Vec<String>>,
    /// Where each name is in `groups`.
    by_name: HashMap<String, usize>,
    /// The same for names without version, where the version does not matter.
    by_bare_name: HashMap<String, Option<usize>>,
}

/// The format in which profiles are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    groups: Vec<Vec<String>>,
}

/// Why some stored data is not a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseProfileError {
    /// Written by another version of Firn.
    #[error("the profile has format {0}, and this is about format {FORMAT}")]
    Format(u32),
    /// A name that is in two groups.
    #[error("the profile has {0:?} in two groups")]
    Repeated(String),
}

const FORMAT: u32 = 1;

impl RevisionProfile {
    /// The profile of a package set, given the closure of all its packages together.
    pub fn of_package_set(set: &Closure) -> Self {
        let groups = cotravel::groups(set);
        let mut seen = std::collections::HashSet::new();
        let names = groups.into_iter().map(|members| {
            let mut names: Vec<String> =
                members.into_iter().map(|i| set.paths()[i].path.name().to_owned()).collect();
            names.sort_unstable();
            names.retain(|name| seen.insert(name.clone()));
            names
        });
        Self::from_groups(names.filter(|names| !names.is_empty()).collect())
            .expect("repeated names were left out")
    }

    fn from_groups(groups: Vec<Vec<String>>) -> Result<Self, ParseProfileError> {
        let mut by_name = HashMap::new();
        let mut by_bare_name = HashMap::new();
        for (i, names) in groups.iter().enumerate() {
            for name in names {
                if by_name.insert(name.clone(), i).is_some() {
                    return Err(ParseProfileError::Repeated(name.clone()));
                }
                by_bare_name
                    .entry(bare_name(name))
                    .and_modify(|group| {
                        if *group != Some(i) {
                            *group = None;
                        }
                    })
                    .or_insert(Some(i));
            }
        }
        Ok(Self { groups, by_name, by_bare_name })
    }

    /// Which group the path is in, counted from the bottom. After an update the version does not matter, as
    /// long as only one group has the name.
    pub fn group_of(&self, path: &StorePath) -> Option<usize> {
        let name = path.name();
        match self.by_name.get(name) {
            Some(&group) => Some(group),
            None => self.by_bare_name.get(&bare_name(name)).copied().flatten(),
        }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Identifies the contents.
    pub fn key(&self) -> CacheKey {
        self.groups
            .iter()
            .fold(CacheKey::builder("revision-profile-1"), |key, group| key.list(group.iter()))
            .build()
    }
}

impl TryFrom<Stored> for RevisionProfile {
    type Error = ParseProfileError;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        if stored.format != FORMAT {
            return Err(ParseProfileError::Format(stored.format));
        }
        Self::from_groups(stored.groups)
    }
}

impl From<RevisionProfile> for Stored {
    fn from(profile: RevisionProfile) -> Self {
        Self { format: FORMAT, groups: profile.groups }
    }
}

/// The name without its version: what stands between a dash before a digit and the next dash is the version,
/// what follows is an output (`openssl-3.0.9-bin` is `openssl-bin`).
fn bare_name(name: &str) -> String {
    let is_version = |part: &&str| part.starts_with(|c: char| c.is_ascii_digit());
    let mut parts = name.split('-');
    let first = parts.next().unwrap_or_default();
    std::iter::once(first).chain(parts.filter(|part| !is_version(part))).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_names() {
        for (name, expect) in [
            ("git-2.39.5", "git"),
            ("openssl-3.0.9-bin", "openssl-bin"),
            ("python3.11-requests-2.28.1", "python3.11-requests"),
            ("libstdc++6", "libstdc++6"),
            ("7zip-23.01", "7zip"),
            ("-1-", "-"),
            ("", ""),
        ] {
            assert_eq!(bare_name(name), expect, "{name}");
        }
    }

    fn profile(groups: &[&[&str]]) -> RevisionProfile {
        let groups = groups.iter().map(|names| names.iter().map(ToString::to_string).collect()).collect();
        RevisionProfile::from_groups(groups).expect("no name twice")
    }

    fn path(name: &str) -> StorePath {
        format!("/nix/store/{}-{name}", "0".repeat(32)).parse().expect("a store path")
    }

    #[test]
    fn finds_names_in_other_versions() {
        let profile = profile(&[&["glibc-2.38", "zlib-1.3"], &["gcc-12.2", "git-2.43"], &["gcc-13.1"]]);
        for (name, expect) in [
            ("glibc-2.38", Some(0)),
            ("glibc-2.39", Some(0)),
            ("git-2.44", Some(1)),
            ("gcc-13.1", Some(2)),
            ("gcc-14.1", None),
            ("curl-8", None),
        ] {
            assert_eq!(profile.group_of(&path(name)), expect, "{name}");
        }
    }

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        let profile = profile(&[&["a", "b"], &["c"]]);
        let json = serde_json::to_string(&profile).expect("serialises");
        assert_eq!(json, r#"{"format":1,"groups":[["a","b"],["c"]]}"#);
        assert_eq!(serde_json::from_str::<RevisionProfile>(&json).expect("parses"), profile);
        for bad in [json.replace(":1", ":2"), json.replace("\"c\"", "\"a\""), json.replace("groups", "group")]
        {
            assert!(serde_json::from_str::<RevisionProfile>(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_tell_profiles_apart() {
        let keys = [
            profile(&[]).key(),
            profile(&[&["a", "b"]]).key(),
            profile(&[&["a"], &["b"]]).key(),
            profile(&[&["b"], &["a"]]).key(),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key));
        }
    }
}
