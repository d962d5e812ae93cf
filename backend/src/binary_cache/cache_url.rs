//! Where a binary cache is, as in Nix's `substituters`: a URL with settings after `?`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The URL of a binary cache, with the settings that count here: `priority` and `trusted`, and for `s3://` those that
/// say where the bucket is. Other settings of Nix are ignored.
#[derive(Clone, PartialEq, Eq)]
pub struct CacheUrl {
    /// Without settings and without a slash at the end.
    base: String,
    pub(super) place: Place,
    /// Overrules what `/nix-cache-info` says. The cache with the lowest number is asked first.
    pub(super) priority: Option<u32>,
    /// Whether paths of this cache need no signature.
    pub(super) is_trusted: bool,
}

/// What a URL points to.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// `https://` or `http://`.
    Http(reqwest::Url),
    /// `file://`: a directory that `nix copy --to` wrote.
    Directory(PathBuf),
    /// `s3://`.
    Bucket {
        name: String,
        /// The service's settings in the URL: `region`, `endpoint`, `scheme`.
        settings: Vec<(String, String)>,
    },
}

/// The text is not the URL of a binary cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseCacheUrlError {
    /// It has none of the schemes, or no place after it.
    #[error("a binary cache is https://HOST, http://HOST, file:///DIR or s3://BUCKET")]
    Scheme,
    /// A setting has no such value.
    #[error("{name}={value:?}: {expected} is expected")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be set to.
        expected: &'static str,
    },
}

impl CacheUrl {
    /// The URL without settings, user and password: for messages, and as the name of the cache in records.
    pub fn name(&self) -> &str {
        &self.base
    }
}

impl FromStr for CacheUrl {
    type Err = ParseCacheUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let base = base.trim_end_matches('/');
        let settings: Vec<(String, String)> =
            url_settings(query).filter(|(name, _)| !name.is_empty()).collect();
        let setting =
            |wanted: &str| settings.iter().rfind(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let (place, name) = place(base, &settings).ok_or(ParseCacheUrlError::Scheme)?;
        let priority = setting("priority").map(|value| {
            value.parse().map_err(|_| ParseCacheUrlError::Setting {
                name: "priority",
                value: value.into(),
                expected: "a number",
            })
        });
        let is_trusted = match setting("trusted") {
            None | Some("0" | "false" | "no") => false,
            Some("1" | "true" | "yes") => true,
            Some(value) => {
                let (name, value) = ("trusted", value.into());
                return Err(ParseCacheUrlError::Setting { name, value, expected: "0 or 1" });
            }
        };
        Ok(Self { base: name, place, priority: priority.transpose()?, is_trusted })
    }
}

/// The place, and its name without a secret.
fn place(base: &str, settings: &[(String, String)]) -> Option<(Place, String)> {
    if let Some(dir) = base.strip_prefix("file://") {
        return dir.starts_with('/').then(|| (Place::Directory(dir.into()), base.to_owned()));
    }
    if let Some(name) = base.strip_prefix("s3://") {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_plain) {
            return None;
        }
        let of_service = |(name, _): &&(String, String)| matches!(&**name, "region" | "endpoint" | "scheme");
        let settings = settings.iter().filter(of_service).cloned().collect();
        return Some((Place::Bucket { name: name.to_owned(), settings }, base.to_owned()));
    }
    if !base.starts_with("https://") && !base.starts_with("http://") {
        return None;
    }
    // With a slash at the end, what is joined to it comes below it.
    let url: reqwest::Url = format!("{base}/").parse().ok()?;
    let mut shown = url.clone();
    shown.set_username("").and_then(|()| shown.set_password(None)).ok()?;
    let name = shown.as_str().trim_end_matches('/').to_owned();
    Some((Place::Http(url), name))
}

fn url_settings(query: &str) -> impl Iterator<Item = (String, String)> {
    // Only a base makes a query a URL.
    let url = reqwest::Url::parse(&format!("settings:?{query}")).ok();
    let pairs: Vec<_> = url
        .iter()
        .flat_map(reqwest::Url::query_pairs)
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    pairs.into_iter()
}

impl fmt::Display for CacheUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

impl fmt::Debug for CacheUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheUrl({self}, priority {:?}, trusted {})", self.priority, self.is_trusted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CacheUrl, ParseCacheUrlError> {
        text.parse()
    }

    #[test]
    fn reads_settings() {
        let url =
            parse("https://cache.example.org/?priority=10&trusted=1&want-mass-query=true").expect("a URL");
        assert_eq!((url.name(), url.priority, url.is_trusted), ("https://cache.example.org", Some(10), true));
        let url = parse("http://user:secret@cache.example.org:8080/a/b").expect("a URL");
        assert_eq!((url.name(), url.priority), ("http://cache.example.org:8080/a/b", None));
        assert!(!format!("{url:?} {url}").contains("secret"));
        assert!(
            matches!(parse("file:///srv/cache/"), Ok(CacheUrl { place: Place::Directory(dir), .. }) if dir.ends_with("cache"))
        );
        let bucket = parse("s3://snow?region=eu-north-1&profile=x&endpoint=http%3A%2F%2Flocalhost%3A9000");
        let Ok(CacheUrl { place: Place::Bucket { name, settings }, .. }) = bucket else {
            panic!("{bucket:?}")
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(name, "snow");
        assert_eq!(settings, [pair("region", "eu-north-1"), pair("endpoint", "http://localhost:9000")]);
    }

    #[test]
    fn refuses_other_places() {
        for bad in [
            "",
            "cache.example.org",
            "ftp://x",
            "file://relative",
            "https://",
            "s3://",
            "s3://a/b",
            "daemon",
            "ssh://x",
        ] {
            assert_eq!(parse(bad), Err(ParseCacheUrlError::Scheme), "{bad}");
        }
        for bad in ["https://x?priority=high", "https://x?priority=-1", "https://x?trusted=maybe"] {
            assert!(matches!(parse(bad), Err(ParseCacheUrlError::Setting { .. })), "{bad}");
        }
    }
}
