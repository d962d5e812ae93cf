//! Base URLs of backends and buckets, to which paths are appended.
//!
//! The parser is our own because the `url` crate contains Unicode tables for international domain names. They take a
//! third of the size that the whole Worker may have. Operators can write such names in their ASCII form.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An `http` or `https` URL without user, query and fragment, and without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseUrl {
    text: Box<str>,
    host: usize,
    path: usize,
}

/// The text is not such a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a URL like https://host, https://host:port or https://host/path")]
pub struct ParseBaseUrlError;

impl BaseUrl {
    /// The whole URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, and the port if the URL has one.
    pub fn host(&self) -> &str {
        &self.text[self.host..self.path]
    }

    /// The host without the port; an IPv6 address without its brackets.
    pub fn name(&self) -> &str {
        host_name(self.host())
    }

    /// The host, if it is an IP address and not a name.
    pub fn address(&self) -> Option<IpAddr> {
        self.name().parse().ok()
    }

    /// The path: empty, or beginning with a slash.
    pub fn path(&self) -> &str {
        &self.text[self.path..]
    }

    /// The URL with one more path component.
    ///
    /// # Errors
    /// If `component` is empty or contains a character that needs escaping.
    pub fn join(&self, component: &str) -> Result<Self, ParseBaseUrlError> {
        if component.is_empty() || component.contains('/') {
            return Err(ParseBaseUrlError);
        }
        format!("{self}/{component}").parse()
    }
}

/// A host as in a URL without its port; an IPv6 address without its brackets.
pub fn host_name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

/// Whether clients that were redirected from one host to another send their credentials there, too. Those in Go do if
/// it is the same host, whatever its port, or a subdomain of it.
pub fn gets_credentials_of(host: &str, to: &str) -> bool {
    let (host, to) = (host.to_ascii_lowercase(), to.to_ascii_lowercase());
    to.strip_suffix(&*host).is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
}

impl FromStr for BaseUrl {
    type Err = ParseBaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim_end_matches('/');
        let host = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), _)) => scheme.len() + "://".len(),
            _ => return Err(ParseBaseUrlError),
        };
        let path = text[host..].find('/').map_or(text.len(), |slash| host + slash);
        let (name, port) = match text[host..path].rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (&text[host..path], None),
        };
        let in_brackets = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let name_is_valid = match in_brackets {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !name.is_empty()
                    && !name.starts_with(['-', '.'])
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
            }
        };
        let port_is_valid =
            port.is_none_or(|port| port.parse::<u16>().is_ok() && !port.starts_with(['+', '0']));
        let path_is_valid = text[path..].split('/').skip(1).all(|component| {
            !matches!(component, "" | "." | "..")
                && component.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
        });
        if name_is_valid && port_is_valid && path_is_valid {
            Ok(Self { text: text.into(), host, path })
        } else {
            Err(ParseBaseUrlError)
        }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_apart() {
        let check = |text: &str, whole: &str, host: &str, path: &str| {
            let url: BaseUrl = text.parse().expect("a URL");
            assert_eq!((url.as_str(), url.host(), url.path()), (whole, host, path));
        };
        check("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080", "");
        check("https://a-b.example/", "https://a-b.example", "a-b.example", "");
        check("https://a.example/b/c/", "https://a.example/b/c", "a.example", "/b/c");
        check("http://[::1]:80", "http://[::1]:80", "[::1]:80", "");
        check("http://[::1]/x", "http://[::1]/x", "[::1]", "/x");
        let joined = "https://a.example/b".parse::<BaseUrl>().and_then(|url| url.join("c"));
        assert_eq!(joined.as_ref().map(BaseUrl::path), Ok("/b/c"));
    }

    #[test]
    fn knows_names_and_addresses() {
        let check = |text: &str, name: &str, is_address: bool| {
            let url: BaseUrl = text.parse().expect("a URL");
            assert_eq!((url.name(), url.address().is_some()), (name, is_address), "{text}");
        };
        check("http://127.0.0.1:8080/x", "127.0.0.1", true);
        check("http://10.0.0.1", "10.0.0.1", true);
        check("http://[::1]:80", "::1", true);
        check("http://[::1]", "::1", true);
        check("https://a.example:8443", "a.example", false);
        check("https://localhost", "localhost", false);
    }

    #[test]
    fn credentials_follow_to_subdomains() {
        let check = |host, to, expect| assert_eq!(gets_credentials_of(host, to), expect, "{host} {to}");
        check("firn.example", "firn.example", true);
        check("firn.example", "backend.firn.example", true);
        check("Firn.example", "a.b.FIRN.example", true);
        check("firn.example", "backend.example", false);
        check("firn.example", "xfirn.example", false);
        check("pull.firn.example", "firn.example", false);
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            "/",
            "http://",
            "https:///x",
            "a.example",
            "a.example:80",
            "ftp://a",
            "//a",
            "http:a",
            "HTTP://a",
            "http://a b",
            "http://u:p@a",
            "http://a?b",
            "http://a#b",
            "http://a/?b",
            "http://a/b c",
            "http://a/../b",
            "http://a//b",
            "http://a:",
            "http://a:x",
            "http://a:99999",
            "http://a:+1",
            "http://[x]",
            "http://ä",
            "http://-a",
            "http://a/%2e",
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(ParseBaseUrlError), "{text}");
        }
        let url: BaseUrl = "http://a".parse().expect("a URL");
        for component in ["", "..", "a/b", "a?b"] {
            assert!(url.join(component).is_err(), "{component}");
        }
    }
}
