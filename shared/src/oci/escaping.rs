//! Characters that clients escape in URLs although they need not (RFC 3986, section 2.1).

/// A text in which a character may be escaped, with upper-case or lower-case digits.
pub(super) fn unescaped(text: &str, character: &str, escape: &str) -> String {
    text.replace(escape, character).replace(&escape.to_ascii_lowercase(), character)
}
