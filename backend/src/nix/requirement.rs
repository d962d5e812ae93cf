//! Which Nix a package set asks for, where the one that is here is older.
//!
//! nixpkgs begins with a comparison of versions, and aborts with this sentence. Only the number is taken from it, so that
//! it may be shown whoever wrote the package set.

use super::{ProcessError, ResolveError};

/// What nixpkgs says before the number.
const REQUIRES: &str = "requires Nix >= ";

/// The longest number.
const MAX_LENGTH: usize = 12;

impl ResolveError {
    /// The version of Nix that the package set needs, if it does not load for want of it.
    pub fn required_nix(&self) -> Option<&str> {
        let (Self::Process(error) | Self::Unloadable { source: error, .. }) = self else { return None };
        let ProcessError::Failed { stderr, .. } = error else { return None };
        stderr.iter().find_map(|line| version_in(line))
    }
}

fn version_in(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(REQUIRES)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let version = rest[..end].trim_end_matches('.');
    let is_one = version.starts_with(|c: char| c.is_ascii_digit()) && version.len() <= MAX_LENGTH;
    is_one.then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_number_and_nothing_else() {
        let check = |line: &str, expect: Option<&str>| assert_eq!(version_in(line), expect, "{line}");
        check("This version of Nixpkgs requires Nix >= 2.18, please upgrade:", Some("2.18"));
        check("error: evaluation aborted: 'This version of Nixpkgs requires Nix >= 2.3.17.'", Some("2.3.17"));
        check("requires Nix >= 3", Some("3"));
        check("requires Nix >= <script>", None);
        check("requires Nix >= ...", None);
        check("requires Nix >= 123456789.123456789", None);
        check("requires Nix 2.18", None);
    }
}
