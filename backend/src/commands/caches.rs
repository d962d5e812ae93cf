//! The binary caches of a command: those of its options, else those that Nix is configured with.

use super::Failure;
use crate::{
    binary_cache::{BinaryCaches, CacheUrl, Netrc, TrustedKeys},
    config::{CacheArgs, ConfigError},
    error_chain::chain,
    nix::{CacheConfiguration, Nix},
};
use std::path::{Path, PathBuf};

/// Binary caches, ready to be asked.
pub(super) struct Configured {
    pub(super) caches: BinaryCaches,
    /// Whether a key is trusted.
    pub(super) has_keys: bool,
    /// Where passwords come from, if there is such a file.
    pub(super) netrc: Option<PathBuf>,
}

/// The binary caches of these options. `nix` is asked only for what they do not say.
///
/// # Errors
/// When a URL, a key or a file of passwords is malformed, or a client cannot be made.
pub(super) async fn configured(args: &CacheArgs, nix: &Nix) -> Result<Configured, Failure> {
    let says_all = args.caches.as_ref().is_some_and(|urls| is_list_empty(urls) || args.cache_keys.is_some());
    let of_nix = match says_all {
        true => CacheConfiguration::default(),
        false => nix.cache_configuration().await.unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "Nix does not say which binary caches it uses");
            CacheConfiguration::default()
        }),
    };
    let urls: Vec<CacheUrl> = match &args.caches {
        Some(urls) => {
            let urls = list(urls).map(|url| url.parse().map_err(|error| usage(&"--caches", &error)));
            urls.collect::<Result<_, _>>()?
        }
        None => substituters(&of_nix),
    };
    let keys = match &args.cache_keys {
        Some(keys) => keys.clone(),
        None => of_nix.trusted_public_keys.join(" "),
    };
    let has_keys = !is_list_empty(&keys);
    let keys: TrustedKeys = keys.parse().map_err(|error| usage(&"--cache-keys", &error))?;
    let (netrc_file, is_required) = match &args.cache_netrc {
        Some(file) => (Some(file.clone()), true),
        None => (of_nix.netrc_file, false),
    };
    let netrc = match &netrc_file {
        Some(file) if !urls.is_empty() => match read_netrc(file) {
            Ok(netrc) => Some(netrc),
            Err(error) if is_required => return Err(usage(&file.display(), &*error)),
            Err(error) => {
                // Nix names such a file by default. Nobody has asked for it.
                if file.exists() {
                    tracing::warn!(file = %file.display(), %error, "the passwords of Nix are not used");
                }
                None
            }
        },
        _ => None,
    };
    let caches = BinaryCaches::new(&urls, keys, netrc.as_ref());
    let caches = caches.map_err(|error| Failure::Usage(chain(&error)))?;
    Ok(Configured { caches, has_keys, netrc: netrc.and(netrc_file) })
}

fn read_netrc(file: &Path) -> Result<Netrc, Box<dyn std::error::Error>> {
    Ok(std::fs::read_to_string(file)?.parse::<Netrc>()?)
}

/// Nix's settings for the same caches, so that what is built for want of a path uses them too. Without caches, Nix downloads
/// as it is configured.
pub(super) fn settings_for_nix(args: &CacheArgs, configured: &Configured) -> Vec<(&'static str, String)> {
    let Some(urls) = args.caches.as_ref().filter(|urls| !is_list_empty(urls)) else { return Vec::new() };
    let mut settings = vec![("substituters", list(urls).collect::<Vec<_>>().join(" "))];
    if let Some(keys) = &args.cache_keys {
        settings.push(("trusted-public-keys", list(keys).collect::<Vec<_>>().join(" ")));
    }
    if let (Some(_), Some(file)) = (&args.cache_netrc, &configured.netrc) {
        settings.push(("netrc-file", file.display().to_string()));
    }
    settings
}

/// Nix has kinds of substituters that are no binary caches, such as other machines by SSH.
fn substituters(configuration: &CacheConfiguration) -> Vec<CacheUrl> {
    let url = |text: &String| {
        let settings = match configuration.requires_signatures {
            true => "",
            false if text.contains('?') => "&trusted=1",
            false => "?trusted=1",
        };
        format!("{text}{settings}")
            .parse()
            .inspect_err(|_| tracing::info!("a substituter of Nix is no binary cache that Firn can read"))
            .ok()
    };
    configuration.substituters.iter().filter_map(url).collect()
}

/// The caches of the option `--caches`, without credentials and settings.
pub(super) fn names(urls: &str) -> String {
    let name = |url: &str| match url.parse::<CacheUrl>() {
        Ok(url) => url.name().to_owned(),
        Err(_) => "(no URL of a cache)".to_owned(),
    };
    list(urls).map(name).collect::<Vec<_>>().join(" ")
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '\n', '\t']).filter(|part| !part.is_empty())
}

fn is_list_empty(text: &str) -> bool {
    list(text).next().is_none()
}

fn usage(what: &dyn std::fmt::Display, error: &dyn std::error::Error) -> Failure {
    Failure::from(ConfigError(format!("{what}: {error}")))
}
