//! Hosts of repositories that serve the files of a commit as an archive.
//!
//! Git needs a conversation with the host, an index of what it received, and a second copy of the files. An archive is one
//! download that is unpacked while it arrives. What git verifies by the commit's hash, the host vouches for here: so it
//! must be reached by `https`, and it is trusted with the package set's refs anyway.

use firn_shared::naming::package_source::Commit;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The hosts that are known to serve archives.
pub const KNOWN: &str = "github.com=github gitlab.com=gitlab codeberg.org=github git.sr.ht=github";

/// Where archives are at a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// `REPOSITORY/archive/COMMIT.tar.gz`: GitHub, Gitea, Forgejo, sourcehut.
    GitHub,
    /// `REPOSITORY/-/archive/COMMIT/archive.tar.gz`
    GitLab,
}

/// The hosts whose archives are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiveHosts(BTreeMap<String, Layout>);

/// The text does not say which hosts have archives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not HOST=github or HOST=gitlab")]
pub struct ParseArchiveHostsError(String);

impl ArchiveHosts {
    /// The URL of the archive of a commit. None if the repository's host is not one of these, or somebody between it and
    /// this machine could change the archive.
    pub(super) fn url(&self, repository: &str, commit: &Commit) -> Option<String> {
        let (scheme, rest) = repository.split_once("://")?;
        let (host, path) = rest.split_once('/')?;
        let is_plain =
            !host.contains('@') && !path.contains(['?', '#']) && path.trim_matches('/').contains('/');
        let is_safe = scheme == "https" || (scheme == "http" && is_this_machine(host));
        let layout = self.0.get(host).filter(|_| is_plain && is_safe)?;
        let repository = repository.trim_end_matches('/').trim_end_matches(".git");
        let commit = commit.as_str();
        Some(match layout {
            Layout::GitHub => format!("{repository}/archive/{commit}.tar.gz"),
            Layout::GitLab => format!("{repository}/-/archive/{commit}/archive.tar.gz"),
        })
    }
}

/// Whether a host, perhaps with a port, is this machine.
fn is_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

impl FromStr for ArchiveHosts {
    type Err = ParseArchiveHostsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let entry = |word: &str| {
            let (host, layout) = word.split_once('=')?;
            let layout = match layout {
                "github" => Layout::GitHub,
                "gitlab" => Layout::GitLab,
                _ => return None,
            };
            let is_host = !host.is_empty() && !host.contains(['/', '@']);
            is_host.then(|| (host.to_owned(), layout))
        };
        let parse = |word: &str| entry(word).ok_or_else(|| ParseArchiveHostsError(word.to_owned()));
        text.split_whitespace().map(parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for ArchiveHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (host, layout)) in self.0.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            let layout = match layout {
                Layout::GitHub => "github",
                Layout::GitLab => "gitlab",
            };
            write!(f, "{space}{host}={layout}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_where_archives_are() {
        let commit: Commit = "0123456789abcdef0123456789abcdef01234567".parse().expect("a commit");
        let hosts: ArchiveHosts = format!("{KNOWN} 127.0.0.1:80=gitlab").parse().expect("hosts");
        let check = |repository: &str, expect: Option<&str>| {
            let expect = expect.map(|text| text.replace("COMMIT", commit.as_str()));
            assert_eq!(hosts.url(repository, &commit), expect, "{repository}");
        };
        check(
            "https://github.com/NixOS/nixpkgs",
            Some("https://github.com/NixOS/nixpkgs/archive/COMMIT.tar.gz"),
        );
        check("https://codeberg.org/o/r.git/", Some("https://codeberg.org/o/r/archive/COMMIT.tar.gz"));
        check(
            "https://gitlab.com/a/b/r.git",
            Some("https://gitlab.com/a/b/r/-/archive/COMMIT/archive.tar.gz"),
        );
        check("http://127.0.0.1:80/o/r", Some("http://127.0.0.1:80/o/r/-/archive/COMMIT/archive.tar.gz"));
        for other in [
            "http://github.com/NixOS/nixpkgs",
            "ssh://git@github.com/NixOS/nixpkgs",
            "git@github.com:NixOS/nixpkgs",
            "https://u:p@github.com/NixOS/nixpkgs",
            "https://github.com/NixOS/nixpkgs?token=x",
            "https://github.com/nixpkgs",
            "https://example.org/NixOS/nixpkgs",
            "file:///srv/github.com/x",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn hosts_are_listed() {
        assert_eq!("".parse(), Ok(ArchiveHosts::default()));
        let hosts: ArchiveHosts = KNOWN.parse().expect("hosts");
        assert_eq!(hosts.to_string().parse(), Ok(hosts));
        for text in ["github.com", "github.com=git", "=github", "https://h=github", "h/x=github"] {
            assert!(text.parse::<ArchiveHosts>().is_err(), "{text}");
        }
    }
}
