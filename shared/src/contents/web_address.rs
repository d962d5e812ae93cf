//! Addresses in documents.

/// Whether a text is an `http` or `https` address as documents may have it: ASCII, with nothing that a URI must escape
/// (RFC 3986). Package sets write home pages as they like, and one that is no URI makes the whole document invalid.
pub(super) fn is_web_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#@!$&'()*+,;=%".contains(&byte);
    let escapes_are_whole = |text: &str| {
        let mut escapes = text.split('%').skip(1);
        escapes.all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
    };
    rest.is_some_and(|rest| {
        rest.starts_with(|first: char| first.is_ascii_alphanumeric())
            && rest.bytes().all(is_allowed)
            && rest.matches('#').count() <= 1
            && escapes_are_whole(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_addresses() {
        for text in ["https://git-scm.com/", "http://example.org:80/a?b=c#d", "https://example.org/%C3%A4~x"]
        {
            assert!(is_web_address(text), "{text}");
        }
        for text in [
            "",
            "https://",
            "https:///x",
            "ftp://example.org",
            "javascript:x",
            "https://example.org/a b",
            "https://example.org/ä",
            "https://example.org/%",
            "https://example.org/%x0",
            "https://example.org/#a#b",
            "https://example.org/\n",
            "https://example.org/<x>",
        ] {
            assert!(!is_web_address(text), "{text}");
        }
    }
}
