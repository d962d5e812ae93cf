//! The name of a store path without its version.

/// The name without its version. Every part between dashes that begins with a digit is taken for a version and left
/// out, except the first part: `openssl-3.0.9-bin` becomes `openssl-bin`.
pub(super) fn bare_name(name: &str) -> String {
    let is_version = |part: &&str| part.starts_with(|c: char| c.is_ascii_digit());
    let mut parts = name.split('-');
    let first = parts.next().unwrap_or_default();
    std::iter::once(first).chain(parts.filter(|part| !is_version(part))).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_names() {
        for (name, expect) in [
            ("git-2.39.5", "git"),
            ("openssl-3.0.9-bin", "openssl-bin"),
            ("python3.11-requests-2.28.1", "python3.11-requests"),
            ("libstdc++6", "libstdc++6"),
            ("7zip-23.01", "7zip"),
            ("-1-", "-"),
            ("", ""),
        ] {
            assert_eq!(bare_name(name), expect, "{name}");
        }
    }
}
