//! From an image's config back to what the image was made from.

use crate::naming::{
    flake_dir::FlakeDir,
    image_name::ImageName,
    package_source::{Commit, Revision},
};
use serde::Deserialize;
use std::collections::HashMap;

/// The name and the package set of an image, as its labels say. Anybody can write labels, so whoever makes the image
/// again must compare its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedOrigin {
    /// The name, in canonical form.
    pub name: ImageName,
    /// The revision of the package set.
    pub revision: Revision,
}

#[derive(Deserialize)]
struct Config {
    config: Execution,
}

#[derive(Deserialize)]
struct Execution {
    #[serde(rename = "Labels")]
    labels: HashMap<String, String>,
}

impl ClaimedOrigin {
    /// What an image's config says. It does not say whether the package set is a flake: `flake` is the directory of the
    /// flake if it is one. None if it is not the config of an image that Firn has made.
    pub fn of_config(config: &[u8], flake: Option<&FlakeDir>) -> Option<Self> {
        let Config { config: Execution { labels } } = serde_json::from_slice(config).ok()?;
        let label = |key: &str| labels.get(&format!("org.opencontainers.image.{key}")).map(String::as_str);
        let revision = label("revision")?;
        let revision = match label("source") {
            Some(url) => Revision::of_commit(url.into(), revision.parse::<Commit>().ok()?, flake.cloned()),
            None => Revision::Path { content: revision.to_owned() },
        };
        Some(Self { name: label("title")?.parse().ok()?, revision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[(&str, &str)]) -> Option<ClaimedOrigin> {
        of_flake(labels, None)
    }

    fn of_flake(labels: &[(&str, &str)], flake: Option<&FlakeDir>) -> Option<ClaimedOrigin> {
        let key = |key: &str| format!("org.opencontainers.image.{key}");
        let labels: HashMap<String, &str> = labels.iter().map(|(name, value)| (key(name), *value)).collect();
        let config = serde_json::json!({ "config": { "Labels": labels } });
        ClaimedOrigin::of_config(&serde_json::to_vec(&config).expect("JSON"), flake)
    }

    #[test]
    fn reads_labels() {
        let commit = "0a".repeat(20);
        let url = "https://example.org/pkgs";
        let name: ImageName = "shell/git".parse().expect("a name");
        let git = Revision::Git { url: url.into(), rev: commit.parse().expect("a commit") };
        let all = [("title", "shell/git"), ("revision", commit.as_str()), ("source", url)];
        assert_eq!(of(&all), Some(ClaimedOrigin { name: name.clone(), revision: git }));
        let dir: FlakeDir = "dir".parse().expect("a directory");
        let rev = commit.parse().expect("a commit");
        let flake = Revision::Flake { url: url.into(), dir: dir.clone(), rev };
        assert_eq!(of_flake(&all, Some(&dir)), Some(ClaimedOrigin { name: name.clone(), revision: flake }));
        let path = Revision::Path { content: commit.clone() };
        assert_eq!(of(&all[..2]), Some(ClaimedOrigin { name, revision: path }));
        assert_eq!(of(&all[..1]), None);
        assert_eq!(of(&all[1..]), None);
        assert_eq!(of(&[("title", "shell/git"), ("revision", "main"), ("source", url)]), None);
        assert_eq!(of(&[("title", "../x"), ("revision", "x")]), None);
        assert_eq!(ClaimedOrigin::of_config(b"{}", None), None);
    }
}
