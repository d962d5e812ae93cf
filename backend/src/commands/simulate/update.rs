//! A made-up next revision of a package set.

use super::graph::Graph;
use firn_shared::{StorePath, cache_key::CacheKey, nix::closure::PathInfo, oci::digest::NarHash};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// What changes between two revisions.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Update {
    /// This percentage of the packages that no other package refers to get a new version.
    Leaves(f64),
    /// The package of this name gets a new version, and everything that refers to it is rebuilt.
    Library(String),
}

/// The text is not an [`Update`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an update is leaves:PERCENT or library:NAME")]
pub(super) struct ParseUpdateError;

impl FromStr for Update {
    type Err = ParseUpdateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("leaves", percent)) => match percent.parse() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::Leaves(percent)),
                _ => Err(ParseUpdateError),
            },
            Some(("library", name)) if !name.is_empty() => Ok(Self::Library(name.to_owned())),
            _ => Err(ParseUpdateError),
        }
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaves(percent) => write!(f, "leaves:{percent}"),
            Self::Library(name) => write!(f, "library:{name}"),
        }
    }
}

impl Update {
    /// The graph after the update: the same packages under the same names. Those that changed have other store paths.
    ///
    /// # Errors
    /// If the graph has no such library.
    pub(super) fn apply(&self, graph: &Graph) -> Result<Graph, String> {
        let mut dependents = vec![Vec::new(); graph.infos.len()];
        for (from, references) in graph.references.iter().enumerate() {
            references.iter().for_each(|&to| dependents[to].push(from));
        }
        let renamed: BTreeSet<usize> = match self {
            Self::Leaves(percent) => {
                let mut leaves: Vec<usize> =
                    (0..dependents.len()).filter(|&i| dependents[i].is_empty()).collect();
                // The order must not depend on the names.
                leaves.sort_by_cached_key(|&i| NarHash::of(graph.infos[i].path.as_str().as_bytes()).hex());
                leaves.truncate((leaves.len() as f64 * percent / 100.0).round() as usize);
                leaves.into_iter().collect()
            }
            Self::Library(name) => {
                let library = graph.by_name.get(name).ok_or_else(|| format!("the graph has no {name}"))?;
                BTreeSet::from([*library])
            }
        };
        let mut changed = BTreeSet::new();
        let mut next: Vec<usize> = renamed.iter().copied().collect();
        while let Some(i) = next.pop() {
            if changed.insert(i) {
                next.extend(&dependents[i]);
            }
        }
        let paths: Vec<StorePath> = (0..dependents.len())
            .map(|i| match &graph.infos[i].path {
                path if changed.contains(&i) => successor(path, renamed.contains(&i)),
                path => Ok(path.clone()),
            })
            .collect::<Result<_, _>>()?;
        let infos = graph
            .infos
            .iter()
            .zip(&graph.references)
            .zip(&paths)
            .map(|((info, references), path)| PathInfo {
                path: path.clone(),
                nar_hash: NarHash::of(path.as_str().as_bytes()),
                nar_size: info.nar_size,
                references: references.iter().map(|&to| paths[to].clone()).collect(),
            })
            .collect();
        Ok(Graph { infos, references: graph.references.clone(), by_name: graph.by_name.clone() })
    }
}

/// The store path of the package in the next revision: with a new version, or only rebuilt.
fn successor(path: &StorePath, has_new_version: bool) -> Result<StorePath, String> {
    let key = CacheKey::builder("update").field(path.as_str()).build().to_string();
    // Nix's base-32 alphabet has no e.
    let hash: String = key.chars().filter(|c| *c != 'e' && c.is_ascii_alphanumeric()).take(32).collect();
    let version = if has_new_version { "-9" } else { "" };
    format!("/nix/store/{hash}{}-{}{version}", "0".repeat(32 - hash.len()), path.name())
        .parse()
        .map_err(|error| format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_itself() {
        for text in ["leaves:5", "leaves:0.5", "library:libssl3", "library:a:b"] {
            assert_eq!(text.parse::<Update>().map(|update| update.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "leaves", "leaves:", "leaves:x", "leaves:-1", "leaves:101", "leaves:NaN", "library:"]
        {
            assert_eq!(text.parse::<Update>(), Err(ParseUpdateError), "{text}");
        }
    }
}
