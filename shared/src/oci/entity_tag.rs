//! Entity tags (RFC 9110, sections 8.8.3 and 13.1.2): here always the digest, in quotes.

use crate::oci::digest::Digest;

/// The `ETag` of what has this digest.
pub fn entity_tag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether an `If-None-Match` header says that the client has it already, so that 304 is the answer.
///
/// Splitting at commas is safe because no entity tag of ours has one.
pub fn is_known(if_none_match: &str, digest: &Digest) -> bool {
    let ours = entity_tag(digest);
    if_none_match
        .split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_weakly() {
        let digest = Digest::of(b"manifest");
        let tag = entity_tag(&digest);
        let check = |header: &str, expect| assert_eq!(is_known(header, &digest), expect, "{header}");
        check(&tag, true);
        check(&format!("W/{tag}"), true);
        check(&format!("\"x\" , {tag}"), true);
        check("*", true);
        check("", false);
        check("\"x\"", false);
        check(&digest.to_string(), false);
    }
}
