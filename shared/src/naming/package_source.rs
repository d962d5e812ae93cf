//! Package sources: where the package set comes from, which revision a tag selects, and which revisions never change.

use crate::{
    naming::{
        flake_dir::FlakeDir,
        source_url::{PublicUrl, SourceUrl},
    },
    oci::reference::Tag,
};
use serde::{Deserialize, Serialize};
use serde_with::{DeserializeFromStr, SerializeDisplay};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The repository of nixpkgs. Its branches are the channels.
pub const NIXPKGS_URL: &str = "https://github.com/NixOS/nixpkgs";

/// A full git commit: 40 lower-case hexadecimal digits. A shorter text is a branch or tag name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct Commit(Box<str>);

/// A branch or tag name that git accepts (git-check-ref-format) and that cannot be mistaken for an option, a path or a
/// URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct GitRef(Box<str>);

/// The text is neither a commit nor a ref name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a 40-digit commit nor a branch or tag name")]
pub struct ParseGitRefError(String);

/// Where the package set comes from. The operator configures it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageSource {
    /// A nixpkgs channel such as `nixos-24.05`, or a nixpkgs commit.
    Channel(Version),
    /// A git repository that holds a package set.
    Git {
        /// The repository's URL.
        url: SourceUrl,
        /// The version that the tag `latest` selects; `None` for the default branch.
        default: Option<Version>,
        /// The directory of the flake, if the package set is one.
        flake: Option<FlakeDir>,
    },
    /// A local directory or file.
    Path {
        /// The directory or file.
        path: PathBuf,
        /// The directory of the flake, if the package set is one.
        flake: Option<FlakeDir>,
    },
}

/// A commit of a git repository, or a name for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// A commit, which never changes.
    Commit(Commit),
    /// A branch or tag, which may move.
    Ref(GitRef),
}

/// What a tag selects in a source, before git or the file system is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// A version of a repository.
    Git {
        /// The repository's URL.
        url: PublicUrl,
        /// The version; `None` for the default branch.
        version: Option<Version>,
        /// The directory of the flake, if the package set is one.
        flake: Option<FlakeDir>,
    },
    /// The current content of a local path.
    Path,
}

/// One state of a package set, which never changes. The keys of records and images contain it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Revision {
    /// A commit of a repository.
    Git {
        /// The repository's URL.
        url: PublicUrl,
        /// The commit.
        rev: Commit,
    },
    /// A flake at a commit of a repository.
    Flake {
        /// The repository's URL.
        url: PublicUrl,
        /// The directory of the flake.
        dir: FlakeDir,
        /// The commit.
        rev: Commit,
    },
    /// A local path with a certain content.
    Path {
        /// SHA-256 over names and contents of the files, in hexadecimal. That of a flake is another.
        content: String,
    },
}

/// Which revisions clients may choose by tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revisions {
    /// Only `latest`.
    Fixed,
    /// `latest`, branches and git tags.
    Refs,
    /// `latest`, branches, git tags and any commit.
    Any,
}

/// Why a tag selects nothing in a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// The source has only one version.
    #[error("this registry serves only the tag latest, because its package source has no other versions")]
    LatestOnly,
    /// The operator does not let clients choose a commit.
    #[error(
        "this registry serves latest and the branches and tags of its package repository, but no commits; its \
         operator can allow them with FIRN_REVISIONS=any"
    )]
    CommitsForbidden,
    /// The operator does not let clients choose a branch or tag.
    #[error(
        "this registry serves only the tag latest; its operator can allow branches and tags with \
         FIRN_REVISIONS=refs, and commits too with FIRN_REVISIONS=any"
    )]
    RefsForbidden,
    /// The tag is not a ref name.
    #[error(transparent)]
    Ref(#[from] ParseGitRefError),
}

impl PackageSource {
    /// The default for [`Revisions`]. Clients may choose branches and tags of the operator's own repository, but
    /// nothing from the history of nixpkgs.
    pub fn default_revisions(&self) -> Revisions {
        match self {
            Self::Git { .. } => Revisions::Refs,
            Self::Channel(_) | Self::Path { .. } => Revisions::Fixed,
        }
    }

    /// The repository, with the operator's credentials for it. `None` for a local path.
    pub fn repository(&self) -> Option<SourceUrl> {
        match self {
            Self::Channel(_) => Some(NIXPKGS_URL.into()),
            Self::Git { url, .. } => Some(url.clone()),
            Self::Path { .. } => None,
        }
    }

    /// The directory of the flake, if the package set is one.
    pub fn flake(&self) -> Option<&FlakeDir> {
        match self {
            Self::Git { flake, .. } | Self::Path { flake, .. } => flake.as_ref(),
            Self::Channel(_) => None,
        }
    }

    /// What a tag selects in this source.
    ///
    /// # Errors
    /// If the tag is not a ref name, or `revisions` does not allow it.
    pub fn select(&self, tag: &Tag, revisions: Revisions) -> Result<Selector, SelectError> {
        let (url, default) = match self {
            Self::Channel(version) => (NIXPKGS_URL.into(), Some(version)),
            Self::Git { url, default, .. } => (url.public().clone(), default.as_ref()),
            Self::Path { .. } if tag.is_latest() => return Ok(Selector::Path),
            Self::Path { .. } => return Err(SelectError::LatestOnly),
        };
        let version = if tag.is_latest() {
            default.cloned()
        } else {
            let version: Version = tag.as_str().parse()?;
            match (&version, revisions) {
                (_, Revisions::Fixed) => return Err(SelectError::RefsForbidden),
                (Version::Commit(_), Revisions::Refs) => return Err(SelectError::CommitsForbidden),
                _ => Some(version),
            }
        };
        Ok(Selector::Git { url, version, flake: self.flake().cloned() })
    }
}

impl Selector {
    /// The revision, if it is known without a lookup. That is so for full commits only, because everything else can
    /// move.
    pub fn pinned(&self) -> Option<Revision> {
        match self {
            Self::Git { url, version: Some(Version::Commit(rev)), flake } => {
                Some(Revision::of_commit(url.clone(), rev.clone(), flake.clone()))
            }
            _ => None,
        }
    }
}

impl Revision {
    /// A commit of a repository, of a flake in this directory or of another package set.
    pub fn of_commit(url: PublicUrl, rev: Commit, flake: Option<FlakeDir>) -> Self {
        match flake {
            Some(dir) => Self::Flake { url, dir, rev },
            None => Self::Git { url, rev },
        }
    }

    /// The repository and the commit; `None` for a path.
    pub fn commit(&self) -> Option<(&PublicUrl, &Commit)> {
        match self {
            Self::Git { url, rev } | Self::Flake { url, rev, .. } => Some((url, rev)),
            Self::Path { .. } => None,
        }
    }

    /// The commit or the content digest, as it appears in labels, headers and logs.
    pub fn id(&self) -> &str {
        match self {
            Self::Git { rev, .. } | Self::Flake { rev, .. } => rev.as_str(),
            Self::Path { content } => content,
        }
    }
}

impl Commit {
    /// The 40 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl GitRef {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Commit {
    type Err = ParseGitRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex { Ok(Self(text.into())) } else { Err(ParseGitRefError(text.chars().take(80).collect())) }
    }
}

impl FromStr for GitRef {
    type Err = ParseGitRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let component = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
        let valid = (1..=200).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/+-".contains(&b))
            && !text.starts_with('-')
            && !text.ends_with('.')
            && !text.contains("..")
            && text.split('/').all(component);
        if valid { Ok(Self(text.into())) } else { Err(ParseGitRefError(text.chars().take(80).collect())) }
    }
}

impl FromStr for Version {
    type Err = ParseGitRefError;

    /// A text of exactly 40 lower-case hexadecimal digits is a commit; every other text is a ref.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Commit).or_else(|_| text.parse().map(Self::Ref))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(commit) => commit.fmt(f),
            Self::Ref(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for GitRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn tag(text: &str) -> Tag {
        text.parse().expect("a tag")
    }

    #[test]
    fn commits_are_forty_hex_digits_and_nothing_else() {
        assert!(matches!(COMMIT.parse(), Ok(Version::Commit(_))));
        for text in [&COMMIT[..39], &COMMIT.to_uppercase(), "nixos-24.05", "0123456", &format!("{COMMIT}0")] {
            assert!(matches!(text.parse(), Ok(Version::Ref(_))), "{text}");
        }
    }

    #[test]
    fn refuses_refs_that_could_be_something_else() {
        for text in [
            "",
            "-",
            "--upload-pack=x",
            "a..b",
            "a/../b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a.lock",
            "a b",
            "a:b",
            "a@{1}",
        ] {
            assert!(text.parse::<GitRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_commit_is_pinned() {
        let git = |default: Option<&str>| PackageSource::Git {
            url: "https://example.org/pkgs".into(),
            default: default.map(|text| text.parse().expect("a version")),
            flake: None,
        };
        let pinned = |source: &PackageSource, text| {
            source
                .select(&tag(text), Revisions::Any)
                .expect("allowed")
                .pinned()
                .map(|rev| rev.id().to_owned())
        };
        assert_eq!(pinned(&git(None), "latest"), None);
        assert_eq!(pinned(&git(Some("main")), "latest"), None);
        assert_eq!(pinned(&git(Some(COMMIT)), "latest").as_deref(), Some(COMMIT));
        assert_eq!(pinned(&git(None), "v1.0"), None);
        assert_eq!(pinned(&git(None), COMMIT).as_deref(), Some(COMMIT));
        let channel = |text: &str| PackageSource::Channel(text.parse().expect("a version"));
        assert_eq!(pinned(&channel("nixos-24.05"), "latest"), None);
        assert_eq!(pinned(&channel(COMMIT), "latest").as_deref(), Some(COMMIT));
        assert_eq!(pinned(&PackageSource::Path { path: "/srv/pkgs".into(), flake: None }, "latest"), None);
    }

    #[test]
    fn the_operator_decides_who_chooses() {
        let git = PackageSource::Git { url: "https://example.org/pkgs".into(), default: None, flake: None };
        let select = |text, revisions| git.select(&tag(text), revisions).map(|_| ());
        assert_eq!(select("latest", Revisions::Fixed), Ok(()));
        assert_eq!(select("v1", Revisions::Fixed), Err(SelectError::RefsForbidden));
        assert_eq!(select("v1", Revisions::Refs), Ok(()));
        assert_eq!(select(COMMIT, Revisions::Refs), Err(SelectError::CommitsForbidden));
        assert_eq!(select(COMMIT, Revisions::Any), Ok(()));
        assert!(matches!(select("a..b", Revisions::Any), Err(SelectError::Ref(_))));
        let path = PackageSource::Path { path: "/srv/pkgs".into(), flake: None };
        assert_eq!(path.select(&tag("v1"), Revisions::Any), Err(SelectError::LatestOnly));
    }
}
