//! Licences: which of a package's are on SPDX's list.

/// The identifiers on SPDX's list, sorted, one a line. A test compares them with the crate `spdx`, which the Worker
/// cannot afford: it brings the titles of all licences along.
const IDENTIFIERS: &str = include_str!("licenses.txt");

/// Whether a text is an identifier on SPDX's list. nixpkgs also has names of its own, such as `unfree`.
pub(super) fn is_listed(license: &str) -> bool {
    IDENTIFIERS.lines().any(|identifier| identifier == license)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_list_is_that_of_the_library() {
        let theirs = spdx::identifiers::LICENSES.iter().map(|license| license.name);
        // It takes this word, which stands for a licence that is not known, for a licence.
        let theirs: BTreeSet<_> = theirs.filter(|name| *name != "NOASSERTION").collect();
        assert!(IDENTIFIERS.lines().eq(theirs));
    }

    #[test]
    fn knows_what_is_listed() {
        for (license, expect) in
            [("GPL-2.0-only", true), ("MIT", true), ("mit", false), ("unfree", false), ("", false)]
        {
            assert_eq!(is_listed(license), expect, "{license}");
        }
    }
}
