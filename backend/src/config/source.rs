//! Where the package set comes from.

use super::{ConfigError, bounds::seconds};
use clap::{Args, ValueEnum};
use firn_shared::naming::{
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

    /// nixpkgs channel such as nixos-24.05, or a full nixpkgs commit
    #[arg(long, env = "FIRN_CHANNEL", value_name = "NAME", help_heading = "Package set (exactly one)")]
    pub channel: Option<String>,

    /// Server that says which commit --channel is at, such as a mirror of the channels [default: <https://channels.nixos.org>]
    #[arg(long, env = "FIRN_CHANNELS_URL", value_name = "URL", hide_env_values = true)]
    pub channels_url: Option<String>,

    /// What the tag latest means in --pkgs-repo: a branch, a tag or a full commit [default: the default branch]
    #[arg(long, env = "FIRN_PKGS_REF", value_name = "REF")]
    pub pkgs_ref: Option<String>,

    /// What tags callers may choose [default: refs for a repository, fixed otherwise]
    #[arg(long, env = "FIRN_REVISIONS", value_enum)]
    pub revisions: Option<RevisionsArg>,

    /// Seconds after which fetching a commit of --pkgs-repo or --channel is given up
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
        let source = match (&self.pkgs_path, &self.pkgs_repo, &self.channel) {
            (Some(path), None, None) => {
                let path = std::path::absolute(path)
                    .map_err(|error| ConfigError(format!("--pkgs-path {}: {error}", path.display())))?;
                PackageSource::Path(path)
            }
            (None, Some(url), None) => {
                let is_url = !url.is_empty() && !url.starts_with('-') && !url.contains(char::is_whitespace);
                let url = SourceUrl::from(url.as_str());
                if !is_url || url.public().as_str().is_empty() {
                    return Err(ConfigError(format!("--pkgs-repo {:?} is not a URL", url.public().as_str())));
                }
                let default = self.pkgs_ref.as_ref().map(version).transpose()?;
                PackageSource::Git { url, default }
            }
            (None, None, Some(channel)) => PackageSource::Channel(version(channel)?),
            (None, None, None) => {
                return Err(ConfigError(
                    "no package set: give one of --pkgs-path, --pkgs-repo, --channel \
                     (FIRN_PKGS_PATH, FIRN_PKGS_REPO, FIRN_CHANNEL)"
                        .into(),
                ));
            }
            _ => {
                return Err(ConfigError(
                    "more than one package set: give only one of --pkgs-path, --pkgs-repo, --channel".into(),
                ));
            }
        };
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
    fn exactly_one_source() {
        assert!(check(None, None, None).is_err_and(|e| e.contains("no package set")));
        assert!(check(Some("/"), Some("https://x"), None).is_err_and(|e| e.contains("more than one")));
        assert!(check(Some("/"), None, None).is_ok());
        assert!(matches!(check(None, None, Some("nixos-24.05")), Ok(PackageSource::Channel(_))));
        assert!(check(None, None, Some("--help")).is_err());
        assert!(check(None, Some("--upload-pack=x"), None).is_err());
    }
}
