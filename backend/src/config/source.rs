//! Where the package set comes from.

use super::{ConfigError, bounds::seconds};
use crate::package_set::{ArchiveHosts, KNOWN_ARCHIVE_HOSTS};
use clap::{Args, ValueEnum};
use firn_shared::naming::{
    flake_url,
    package_source::{PackageSource, Revisions, Version},
    source_url::SourceUrl,
};
use std::path::PathBuf;
use std::time::Duration;

/// Exactly one source is needed.
#[derive(Debug, Clone, Default, Args)]
pub struct SourceArgs {
    /// Directory or file with the package set: a function of `{ system, config }`, as nixpkgs is
    #[arg(long, env = "FIRN_PKGS_PATH", value_name = "PATH", help_heading = "Package set (exactly one)")]
    pub pkgs_path: Option<PathBuf>,

    /// URL of a git repository with the package set
    #[arg(
        long,
        env = "FIRN_PKGS_REPO",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "Package set (exactly one)"
    )]
    pub pkgs_repo: Option<String>,

    /// URL of a flake with the package set, for example github:OWNER/REPOSITORY, git+https://…, git+file:///… or path:/…
    #[arg(
        long,
        env = "FIRN_FLAKE",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "Package set (exactly one)"
    )]
    pub flake: Option<String>,

    /// nixpkgs channel such as nixos-24.05, or a full nixpkgs commit
    #[arg(long, env = "FIRN_CHANNEL", value_name = "NAME", help_heading = "Package set (exactly one)")]
    pub channel: Option<String>,

    /// Server that says which commit --channel is at, such as a mirror of the channels [default: <https://channels.nixos.org>]
    #[arg(long, env = "FIRN_CHANNELS_URL", value_name = "URL", hide_env_values = true)]
    pub channels_url: Option<String>,

    /// What the tag latest means in --pkgs-repo: a branch, a tag or a full commit [default: the default branch]
    #[arg(long, env = "FIRN_PKGS_REF", value_name = "REF")]
    pub pkgs_ref: Option<String>,

    /// What tags callers may choose [default: refs for a repository, also one with a flake, fixed otherwise]
    #[arg(long, env = "FIRN_REVISIONS", value_enum)]
    pub revisions: Option<RevisionsArg>,

    /// Hosts whose archives of commits are downloaded, which takes less time than git: each HOST=github or HOST=gitlab, by
    /// the layout of its URLs. Empty for none
    #[arg(long, env = "FIRN_ARCHIVE_HOSTS", value_name = "HOSTS", default_value = KNOWN_ARCHIVE_HOSTS)]
    pub archive_hosts: ArchiveHosts,

    /// Seconds after which fetching a commit of --pkgs-repo, --flake or --channel is given up, and what an evaluation downloads
    #[arg(long, env = "FIRN_FETCH_TIMEOUT", value_name = "SECONDS", value_parser = seconds(), default_value_t = 600)]
    pub fetch_timeout: u64,
}

/// [`Revisions`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RevisionsArg {
    /// Only latest
    Fixed,
    /// Branches and tags too
    Refs,
    /// Any commit too
    Any,
}

impl SourceArgs {
    /// Timeout of fetching a commit.
    pub fn fetch_limit(&self) -> Duration {
        Duration::from_secs(self.fetch_timeout)
    }

    /// The mirror of the channels, if one is given.
    ///
    /// # Errors
    /// If it is not the URL of a web server.
    pub fn channels(&self) -> Result<Option<SourceUrl>, ConfigError> {
        let Some(url) = &self.channels_url else { return Ok(None) };
        let is_web = ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme));
        let url = SourceUrl::from(url.as_str());
        if is_web {
            return Ok(Some(url));
        }
        Err(ConfigError(format!(
            "--channels-url {:?} is neither https:// nor http://",
            url.public().as_str()
        )))
    }

    /// The package source, and which revisions callers may choose in it.
    ///
    /// # Errors
    /// If no source is given, more than one, or an invalid one.
    pub fn source(&self) -> Result<(PackageSource, Revisions), ConfigError> {
        let version = |text: &String| {
            text.parse::<Version>().map_err(|error| ConfigError(format!("package set: {error}")))
        };
        let source = match (&self.pkgs_path, &self.pkgs_repo, &self.flake, &self.channel) {
            (Some(path), None, None, None) => {
                let path = std::path::absolute(path)
                    .map_err(|error| ConfigError(format!("--pkgs-path {}: {error}", path.display())))?;
                PackageSource::Path { path, flake: None }
            }
            (None, Some(url), None, None) => {
                let is_url = !url.is_empty() && !url.starts_with('-') && !url.contains(char::is_whitespace);
                let url = SourceUrl::from(url.as_str());
                if !is_url || url.public().as_str().is_empty() {
                    return Err(ConfigError(format!("--pkgs-repo {:?} is not a URL", url.public().as_str())));
                }
                let default = self.pkgs_ref.as_ref().map(version).transpose()?;
                PackageSource::Git { url, default, flake: None }
            }
            (None, None, Some(url), None) => flake_url::parse(url).map_err(|error| {
                let url = SourceUrl::from(url.as_str());
                ConfigError(format!("--flake {:?}: {error}", url.public().as_str()))
            })?,
            (None, None, None, Some(channel)) => PackageSource::Channel(version(channel)?),
            (None, None, None, None) => {
                return Err(ConfigError(
                    "no package set: give one of --pkgs-path, --pkgs-repo, --flake, --channel \
                     (FIRN_PKGS_PATH, FIRN_PKGS_REPO, FIRN_FLAKE, FIRN_CHANNEL)"
                        .into(),
                ));
            }
            _ => {
                return Err(ConfigError(
                    "more than one package set: give only one of --pkgs-path, --pkgs-repo, --flake, \
                     --channel"
                        .into(),
                ));
            }
        };
        if self.pkgs_ref.is_some() && source.flake().is_some() {
            return Err(ConfigError(
                "--pkgs-ref belongs to --pkgs-repo; the URL of --flake says which branch, tag or commit is meant, for \
                 example github:OWNER/REPOSITORY/BRANCH or git+https://…?ref=BRANCH"
                    .into(),
            ));
        }
        let revisions = match self.revisions {
            None => source.default_revisions(),
            Some(RevisionsArg::Fixed) => Revisions::Fixed,
            Some(RevisionsArg::Refs) => Revisions::Refs,
            Some(RevisionsArg::Any) => Revisions::Any,
        };
        Ok((source, revisions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: Option<&str>, repo: Option<&str>, channel: Option<&str>) -> Result<PackageSource, String> {
        SourceArgs {
            pkgs_path: path.map(Into::into),
            pkgs_repo: repo.map(Into::into),
            channel: channel.map(Into::into),
            ..SourceArgs::default()
        }
        .source()
        .map(|(source, _)| source)
        .map_err(|error| error.to_string())
    }

    #[test]
    fn channels_are_on_the_web() {
        let check = |url: &str| {
            let args = SourceArgs { channels_url: Some(url.into()), ..SourceArgs::default() };
            args.channels().map(|url| url.map(|url| url.to_string())).map_err(|error| error.to_string())
        };
        assert_eq!(
            check("https://mirror.example.org/nix"),
            Ok(Some("https://mirror.example.org/nix".into()))
        );
        for url in ["", "mirror.example.org", "file:///channels"] {
            assert!(check(url).is_err_and(|error| error.contains("neither https:// nor http://")), "{url}");
        }
    }

    #[test]
    fn a_flake_is_a_repository_or_a_path() {
        let args = |url: &str| SourceArgs { flake: Some(url.into()), ..SourceArgs::default() };
        let (source, revisions) = args("github:o/r/main?dir=sub").source().expect("a flake");
        assert_eq!(source.flake().map(|dir| dir.as_str()), Some("sub"));
        assert_eq!(revisions, Revisions::Refs);
        let (source, revisions) = args("path:/srv/set").source().expect("a flake");
        assert!(source.flake().is_some() && revisions == Revisions::Fixed);
        let error =
            args("git+https://u:s3cret@h?token=s3cret").source().expect_err("no repository").to_string();
        assert!(error.contains("git+https://HOST/REPOSITORY") && !error.contains("s3cret"), "{error}");
        let with_ref = SourceArgs { pkgs_ref: Some("main".into()), ..args("github:o/r") };
        assert!(with_ref.source().is_err_and(|error| error.to_string().contains("--pkgs-ref belongs to")));
        let with_channel = SourceArgs { channel: Some("nixos-24.05".into()), ..args("github:o/r") };
        assert!(with_channel.source().is_err_and(|error| error.to_string().contains("more than one")));
    }

    #[test]
    fn exactly_one_source() {
        assert!(check(None, None, None).is_err_and(|e| e.contains("no package set")));
        assert!(check(Some("/"), Some("https://x"), None).is_err_and(|e| e.contains("more than one")));
        assert!(check(Some("/"), None, None).is_ok());
        assert!(matches!(check(None, None, Some("nixos-24.05")), Ok(PackageSource::Channel(_))));
        assert!(check(None, None, Some("--help")).is_err());
        assert!(check(None, Some("--upload-pack=x"), None).is_err());
    }
}
