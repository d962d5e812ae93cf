//! The name and the version in a store path's name (Nix manual, `builtins.parseDrvName`).

use super::store_path::StorePath;

/// The parts of a store path's name: `git-2.39.5-man` is the output `man` of version `2.39.5` of `git`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DerivationName<'a> {
    /// The name without version.
    pub name: &'a str,
    /// The version; `None` if the name has none.
    pub version: Option<&'a str>,
    /// The output, unless it is the default one or the name has no version.
    pub output: Option<&'a str>,
}

impl<'a> DerivationName<'a> {
    /// The parts of a store path's name.
    ///
    /// The version begins after the first dash that no letter follows, as for Nix. Nix appends a dash and the output to
    /// the name of the derivation, and nothing tells the two apart. Here, the text after the version's last dash is an
    /// output if it has no digit, which is also how scanners of images read store paths.
    pub fn of(path: &'a StorePath) -> Self {
        Self::parse(path.name())
    }

    fn parse(text: &'a str) -> Self {
        let (name, version) = split_version(text);
        let Some(version) = version else { return Self { name, version, output: None } };
        let is_output = |last: &str| !last.is_empty() && !last.bytes().any(|byte| byte.is_ascii_digit());
        match version.rsplit_once('-') {
            Some((version, last)) if is_output(last) => {
                Self { name, version: Some(version), output: Some(last) }
            }
            _ => Self { name, version: Some(version), output: None },
        }
    }
}

/// The name and the version of a derivation's name, as `builtins.parseDrvName` splits them.
fn split_version(text: &str) -> (&str, Option<&str>) {
    let begins_version =
        |(dash, _): &(usize, &str)| text[dash + 1..].starts_with(|first: char| !first.is_ascii_alphabetic());
    match text.match_indices('-').find(begins_version) {
        // A component of a bill of materials must have a name.
        Some((0, _)) | None => (text, None),
        Some((dash, _)) => (&text[..dash], Some(&text[dash + 1..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples are those of Nix's own tests and of its manual.
    #[test]
    fn versions_are_split_as_by_nix() {
        for (text, name, version) in [
            ("git-2.39.5", "git", Some("2.39.5")),
            ("nix-0.12pre12876", "nix", Some("0.12pre12876")),
            ("a-b-c-1234pre5+git", "a-b-c", Some("1234pre5+git")),
            ("python3.11-requests-2.28.1", "python3.11-requests", Some("2.28.1")),
            ("source", "source", None),
            ("source-", "source-", None),
            ("x-_1", "x", Some("_1")),
            ("-1", "-1", None),
        ] {
            assert_eq!(split_version(text), (name, version), "{text}");
        }
    }

    #[test]
    fn outputs_follow_the_version() {
        for (text, name, version, output) in [
            ("glibc-2.34-210-bin", "glibc", Some("2.34-210"), Some("bin")),
            ("openssl-3.0.9", "openssl", Some("3.0.9"), None),
            ("zlib-1.2.13-r1", "zlib", Some("1.2.13-r1"), None),
            ("x-1-", "x", Some("1-"), None),
            ("x-1-2", "x", Some("1-2"), None),
            ("foo-dev", "foo-dev", None, None),
        ] {
            assert_eq!(DerivationName::parse(text), DerivationName { name, version, output }, "{text}");
        }
    }
}
