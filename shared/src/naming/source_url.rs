//! URLs of git repositories, with and without credentials.
//!
//! An operator may configure `https://user:token@host/repository`. The URL becomes part of image labels, records, keys,
//! logs and errors, which must not reveal the token. So there are two types. [`SourceUrl`] is the configured URL; only
//! [`SourceUrl::with_credentials`], which is for git, returns the credentials. [`PublicUrl`] never has any. Keys
//! contain the [`PublicUrl`], so that images stay valid when the operator changes the token.

use serde_with::{DeserializeFromStr, SerializeDisplay};
use std::{convert::Infallible, fmt, str::FromStr};

/// The URL of a repository as the operator configured it. It is displayed without credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceUrl {
    public: PublicUrl,
    /// The whole URL, if it differs from `public`.
    secret: Option<Box<str>>,
}

/// The URL of a repository without credentials:
///
/// - It has no user or password. The exception is the user of an SSH URL, which is part of the address
///   (`ssh://git@host/…`).
/// - Its query has only parameters that select what is fetched, such as `ref`.
/// - It has no fragment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct PublicUrl(Box<str>);

/// The query parameters that are shown. Any other may be a token.
const SHOWN_PARAMETERS: [&str; 9] = ["ref", "rev", "branch", "dir", "path", "p", "repo", "project", "name"];

/// The least length in bytes of a secret that is removed from texts. A shorter one would occur by chance.
const SHORTEST_SECRET: usize = 3;
/// The least length in bytes of a user name that is treated as a token.
const SHORTEST_TOKEN: usize = 8;

impl SourceUrl {
    /// The URL without credentials.
    pub fn public(&self) -> &PublicUrl {
        &self.public
    }

    /// The whole URL. It is for git only: never show, store or log it.
    pub fn with_credentials(&self) -> &str {
        self.secret.as_deref().unwrap_or(&self.public.0)
    }

    /// Whether the URL has credentials.
    pub fn has_credentials(&self) -> bool {
        self.secret.is_some()
    }

    /// Removes this URL's credentials, and those of all other URLs, from git's output.
    pub fn redact(&self, text: &str) -> String {
        let Some(secret) = &self.secret else { return without_credentials(text) };
        let mut text = without_credentials(&text.replace(&**secret, &self.public.0));
        for piece in secrets(secret) {
            for form in [percent_decoded(piece), piece.to_owned()] {
                if form.len() >= SHORTEST_SECRET {
                    text = text.replace(&form, "(redacted)");
                }
            }
        }
        text
    }
}

impl PublicUrl {
    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SourceUrl {
    fn from(text: &str) -> Self {
        let public = PublicUrl::from(text);
        let secret = (*public.0 != *text).then(|| text.into());
        Self { public, secret }
    }
}

impl From<&str> for PublicUrl {
    fn from(text: &str) -> Self {
        Self(strip(text, Shown::Source).into())
    }
}

impl FromStr for PublicUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.public.fmt(f)
    }
}

impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = if self.has_credentials() { ", with credentials" } else { "" };
        write!(f, "SourceUrl({}{credentials})", self.public)
    }
}

/// Where a URL occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// The URL is a package source. Only parameters that are known to be harmless are shown.
    Source,
    /// The URL is part of a message, for people to follow. Only parameters whose names suggest a secret are hidden.
    Text,
}

/// A parameter is secret if its name contains one of these words.
const SECRET_WORDS: [&str; 8] = ["token", "secret", "passw", "key", "auth", "sig", "credential", "session"];

/// Removes the credentials from all URLs in a text: user, password, and parameters whose names suggest a secret.
pub fn without_credentials(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
        let start = rest[..at]
            .rfind(|c| !is_scheme(c))
            .map_or(0, |before| before + rest[before..].chars().next().map_or(1, char::len_utf8));
        let is_end = |c: char| c.is_whitespace() || c.is_control() || "'\"`<>‘’“”".contains(c);
        let end = rest[at..].find(is_end).map_or(rest.len(), |end| at + end);
        result.push_str(&rest[..start]);
        result.push_str(&strip(&rest[start..end], Shown::Text));
        rest = &rest[end..];
    }
    result + rest
}

/// The parts of a URL that may be secret.
fn parts(url: &str) -> Parts<'_> {
    let Some((scheme, rest)) = url.split_once("://") else {
        // The URL has scp's form, `user@host:path`, or is a path.
        let head = &url[..url.find('/').unwrap_or(url.len())];
        let user = head.rfind('@').map_or("", |at| &head[..at]);
        return Parts {
            scheme: None,
            user,
            rest: &url[url.len().min(at_sign(user))..],
            query: None,
            fragment: None,
        };
    };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    // A slash in a password must be escaped. If it is not, the password must still be hidden.
    let is_cut_short = !port.ends_with(']') && !port.bytes().all(|byte| byte.is_ascii_digit());
    let searched = if is_cut_short { rest } else { authority };
    let user = searched.rfind('@').map_or("", |at| &searched[..at]);
    let rest = &rest[at_sign(user)..];
    // In the name of a file, `?` and `#` have no special meaning.
    if scheme.ends_with("file") {
        return Parts { scheme: Some(scheme), user, rest, query: None, fragment: None };
    }
    let (rest, fragment) = optional(rest, '#');
    let (rest, query) = optional(rest, '?');
    Parts { scheme: Some(scheme), user, rest, query, fragment }
}

/// The text before a separator, and the text after it if the separator occurs.
fn optional(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// The length of `user@` in bytes; 0 if there is no user.
fn at_sign(user: &str) -> usize {
    if user.is_empty() { 0 } else { user.len() + 1 }
}

struct Parts<'a> {
    scheme: Option<&'a str>,
    /// The text before the `@`: `user`, `user:password` or nothing.
    user: &'a str,
    /// Host and path.
    rest: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// The user's name if it is part of the address; else empty.
    fn shown_user(&self) -> &'a str {
        let is_address = self.scheme.is_none_or(|scheme| scheme.ends_with("ssh"));
        if is_address { self.user.split(':').next().unwrap_or_default() } else { "" }
    }

    fn parameters(&self) -> impl Iterator<Item = &'a str> {
        self.query.into_iter().flat_map(|query| query.split('&'))
    }
}

/// Whether a parameter, or a fragment, may be shown.
fn is_shown(parameter: &str, place: Shown) -> bool {
    let name = parameter.split('=').next().unwrap_or_default().to_ascii_lowercase();
    match place {
        Shown::Source => SHOWN_PARAMETERS.contains(&name.as_str()),
        Shown::Text => !SECRET_WORDS.iter().any(|word| name.contains(word)),
    }
}

fn strip(url: &str, place: Shown) -> String {
    let parts = parts(url);
    let scheme = parts.scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
    let user = parts.shown_user();
    let at = if user.is_empty() { "" } else { "@" };
    let query: Vec<_> = parts.parameters().filter(|parameter| is_shown(parameter, place)).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    // The path may contain another URL, as with proxies.
    let rest =
        if parts.rest.contains("://") { without_credentials(parts.rest) } else { parts.rest.to_owned() };
    let fragment = parts.fragment.filter(|fragment| place == Shown::Text && is_shown(fragment, place));
    let (number_sign, fragment) = fragment.map_or(("", ""), |fragment| ("#", fragment));
    format!("{scheme}{user}{at}{rest}{mark}{}{number_sign}{fragment}", query.join("&"))
}

/// The parts of a URL that are secret on their own.
fn secrets(url: &str) -> Vec<&str> {
    let parts = parts(url);
    let shown = parts.shown_user();
    let mut pieces = vec![parts.user];
    if let Some((user, password)) = parts.user.split_once(':') {
        pieces.push(password);
        // A long user name may be a token. A short one is just a name, and may occur within other words.
        pieces.extend((user.len() >= SHORTEST_TOKEN).then_some(user));
    }
    pieces.retain(|piece| *piece != shown);
    let values = parts.parameters().filter(|parameter| !is_shown(parameter, Shown::Source));
    pieces.extend(values.map(|parameter| parameter.split_once('=').map_or(parameter, |(_, value)| value)));
    pieces
}

/// Decodes percent-escapes such as `%40` for `@`. Invalid escapes stay as they are.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credentials_are_not_shown() {
        let check = |text: &str, expect: &str| {
            let url = SourceUrl::from(text);
            assert_eq!(url.to_string(), expect, "{text}");
            assert_eq!(url.with_credentials(), text);
            assert_eq!(url.has_credentials(), text != expect, "{text}");
            // Stripping a stripped URL changes nothing.
            assert_eq!(PublicUrl::from(expect).as_str(), expect, "{text}");
        };
        check("https://user:token@example.org/pkgs", "https://example.org/pkgs");
        check("https://token@example.org/pkgs.git", "https://example.org/pkgs.git");
        check("https://a@b:c@d@example.org:8443/x", "https://example.org:8443/x");
        check("https://user:to/ken@example.org/x", "https://example.org/x");
        check("https://example.org/x?access_token=abc", "https://example.org/x");
        check("https://example.org/x?private_token=a&ref=main&b#c", "https://example.org/x?ref=main");
        check("https://oauth2:t@[::1]:8080/x", "https://[::1]:8080/x");
        check("http::https://user:token@example.org/x", "http::https://example.org/x");
        check("ssh://git:password@example.org:2222/x", "ssh://git@example.org:2222/x");
        check("git+ssh://git:password@example.org/x", "git+ssh://git@example.org/x");
        check("user:password@example.org:x/y", "user@example.org:x/y");
        check(
            "https://proxy.example/https://a:b@example.org/x",
            "https://proxy.example/https://example.org/x",
        );
        check("https://user:token@example.org/a@v1", "https://example.org/a@v1");
        // These URLs have no credentials.
        for url in [
            "https://example.org/pkgs",
            "https://example.org:8443/a/b@v1",
            "https://[::1]/a@b",
            "https://example.org/cgi?p=pkgs.git",
            "ssh://git@example.org/~/x",
            "git@example.org:a/b.git",
            "git://example.org/x",
            "file:///srv/a@b?c#d",
            "/srv/pkgs:a@b",
            "../pkgs",
            "",
        ] {
            check(url, url);
        }
    }

    #[test]
    fn nothing_that_can_be_printed_has_a_secret() {
        let url = SourceUrl::from("https://me:s3cr%40t@example.org/x?access_token=t0ken");
        let revision = serde_json::to_string(url.public()).expect("JSON");
        assert_eq!(revision, r#""https://example.org/x""#);
        assert!(!format!("{url:?}").contains("s3cr"));
        let said = "fatal: unable to access 'https://me:s3cr%40t@example.org/x?access_token=t0ken/': denied to s3cr@t \
                    (s3cr%40t, t0ken), see https://other:word@example.com/";
        let redacted = url.redact(said);
        assert!(!redacted.contains("s3cr") && !redacted.contains("t0ken"), "{redacted}");
        assert!(redacted.ends_with("see https://example.com/"), "{redacted}");
        // A URL in a record is stripped when it is read.
        let read: PublicUrl = serde_json::from_str(r#""https://me:word@example.org""#).expect("a text");
        assert_eq!(read.as_str(), "https://example.org");
    }

    #[test]
    fn every_url_of_a_text_is_stripped() {
        let check = |text: &str, expect: &str| assert_eq!(without_credentials(text), expect);
        check("no URL: a://", "no URL: a://");
        check("see ‘https://a:b@c/d’, <ftp://e@f> and g@h", "see ‘https://c/d’, <ftp://f> and g@h");
        check("ähttps://a:b@c://d", "ähttps://c://d");
        check("see https://a:b@c/d?id=1&access_token=x#e, or", "see https://c/d?id=1#e, or");
        check("https://c/d#access_token=x", "https://c/d");
    }

    proptest! {
        #[test]
        fn a_password_never_shows(
            scheme in "(https?|ssh|git|ftp|git\\+ssh|x::https)",
            user in "[a-z%0-9]{0,5}",
            path in "[a-z/@?&=#:.]{0,20}",
        ) {
            let secret = "PASS%57ORD";
            let url = SourceUrl::from(format!("{scheme}://{user}:{secret}@host/{path}").as_str());
            let shown = url.to_string();
            prop_assert!(!shown.contains("PASS") && shown.contains("host"), "{}", shown);
            let said = format!("cannot read {}; PASSWORD {secret}", url.with_credentials());
            prop_assert!(!url.redact(&said).contains("PASS"), "{}", url.redact(&said));
        }

        #[test]
        fn stripping_never_panics_and_is_done_once(text in "([a-z:/@?#&=%\\[\\] '‘]|://|é){0,30}") {
            let url = SourceUrl::from(text.as_str());
            let _ = (url.redact(&text), without_credentials(&text));
            let shown = url.to_string();
            prop_assert_eq!(strip(&shown, Shown::Source), shown);
        }
    }
}
