//! What Nix is configured with that concerns binary caches.

use super::{Bounds, Memory, Nix, ProcessError};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Nix only reads its files.
const LIMIT: Bounds = Bounds { time: Duration::from_secs(30), memory: Memory::Unbounded, gives_way: false };

/// The binary caches that Nix uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheConfiguration {
    /// URLs, in Nix's order; none if Nix does not substitute.
    pub substituters: Vec<String>,
    /// Whether store paths must be signed.
    pub requires_signatures: bool,
    /// `NAME:BASE64`.
    pub trusted_public_keys: Vec<String>,
    /// Where the passwords of private caches are.
    pub netrc_file: Option<PathBuf>,
}

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// Nix does not say.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Nix says something else than settings.
    #[error("cannot parse Nix's settings")]
    Answer(#[from] serde_json::Error),
}

#[derive(Debug, Deserialize)]
struct Value<T> {
    value: T,
}

/// The settings that count here; `nix show-config --json` has many more.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Settings {
    substitute: Value<bool>,
    substituters: Value<Vec<String>>,
    require_sigs: Value<bool>,
    trusted_public_keys: Value<Vec<String>>,
    netrc_file: Option<Value<PathBuf>>,
}

impl CacheConfiguration {
    fn parse(answer: &[u8]) -> Result<Self, serde_json::Error> {
        let settings: Settings = serde_json::from_slice(answer)?;
        let substituters = match settings.substitute.value {
            true => settings.substituters.value,
            false => Vec::new(),
        };
        let netrc_file =
            settings.netrc_file.map(|file| file.value).filter(|file| !file.as_os_str().is_empty());
        Ok(Self {
            substituters,
            requires_signatures: settings.require_sigs.value,
            trusted_public_keys: settings.trusted_public_keys.value,
            netrc_file,
        })
    }
}

impl Nix {
    /// The binary caches that Nix is configured with.
    ///
    /// # Errors
    /// If Nix cannot be run, or answers something else.
    pub async fn cache_configuration(&self) -> Result<CacheConfiguration, ConfigurationError> {
        let ask = async |words: &[&str]| {
            let mut arguments: Vec<_> =
                ["--extra-experimental-features", "nix-command"].map(Into::into).into();
            arguments.extend(words.iter().map(Into::into));
            self.run_uncounted("nix", arguments, LIMIT, |_| {}).await
        };
        let answer = match ask(&["config", "show", "--json"]).await {
            // Before Nix 2.20 it had another name.
            Err(ProcessError::Failed { .. }) => ask(&["show-config", "--json"]).await,
            answer => answer,
        };
        Ok(CacheConfiguration::parse(&answer?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_nix_says() {
        let text = |substitute| {
            format!(
                r#"{{"cores":{{"value":0}},"netrc-file":{{"value":"/etc/nix/netrc"}},"substitute":{{"value":{substitute}}},"require-sigs":{{"value":true}},
                "substituters":{{"value":["https://cache.nixos.org/"]}},"trusted-public-keys":{{"value":["a:b"]}}}}"#
            )
        };
        let parsed = CacheConfiguration::parse(text(true).as_bytes()).expect("settings");
        let expect = CacheConfiguration {
            substituters: vec!["https://cache.nixos.org/".into()],
            requires_signatures: true,
            trusted_public_keys: vec!["a:b".into()],
            netrc_file: Some("/etc/nix/netrc".into()),
        };
        assert_eq!(parsed, expect);
        let parsed = CacheConfiguration::parse(text(false).as_bytes()).expect("settings");
        assert_eq!(parsed.substituters, [""; 0]);
        assert!(CacheConfiguration::parse(b"{}").is_err());
    }
}
