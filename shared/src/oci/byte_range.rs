//! The `Range` header (RFC 9110, section 14), as far as registries' clients use it: one range of bytes.

use crate::oci::{digest::Digest, endpoint::Method, entity_tag::entity_tag};

/// Which part of a body a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// All of it: no range was asked for, or none that can be understood (section 14.2 lets a server ignore
    /// those, and several ranges at once).
    Whole,
    /// From `start` up to and with `end`, both within the body.
    Part {
        /// The first byte's offset.
        start: u64,
        /// The last byte's offset.
        end: u64,
    },
    /// Nothing that exists: 416.
    Unsatisfiable,
}

/// The `Range` header that counts in a request for a blob: only GET has parts (section 14.2), and a part is of use
/// only to who has the rest of the same blob, where `If-Range` asks for that (section 13.1.5).
pub fn range_that_counts<'a>(
    method: Method,
    range: Option<&'a str>,
    if_range: Option<&str>,
    digest: &Digest,
) -> Option<&'a str> {
    let is_same = if_range.is_none_or(|tag| tag == entity_tag(digest));
    range.filter(|_| method == Method::Get && is_same)
}

impl ByteRange {
    /// What a `Range` header asks of a body of `size` bytes.
    pub fn parse(header: Option<&str>, size: u64) -> Self {
        let Some((first, last)) = header
            .and_then(|value| value.trim().strip_prefix("bytes="))
            .filter(|ranges| !ranges.contains(','))
            .and_then(|range| range.trim().split_once('-'))
        else {
            return Self::Whole;
        };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            // A number too large for u64 lies beyond every body.
            digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
        };
        match (first, number(first), last, number(last)) {
            ("", _, _, Some(0)) => Self::Unsatisfiable,
            ("", _, _, Some(_)) if size == 0 => Self::Unsatisfiable,
            ("", _, _, Some(suffix)) => Self::Part { start: size.saturating_sub(suffix), end: size - 1 },
            (_, Some(start), "", _) if start < size => Self::Part { start, end: size - 1 },
            (_, Some(start), _, Some(end)) if start > end => Self::Whole,
            (_, Some(start), _, Some(end)) if start < size => Self::Part { start, end: end.min(size - 1) },
            (_, Some(_), "", _) | (_, Some(_), _, Some(_)) => Self::Unsatisfiable,
            _ => Self::Whole,
        }
    }

    /// The `Content-Range` header of the answer, if it has one.
    pub fn content_range(self, size: u64) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::Part { start, end } => Some(format!("bytes {start}-{end}/{size}")),
            Self::Unsatisfiable => Some(format!("bytes */{size}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ByteRange::{Part, Unsatisfiable, Whole};

    #[test]
    fn a_range_counts_only_with_the_right_if_range() {
        let (digest, tag) = (Digest::of(b"x"), entity_tag(&Digest::of(b"x")));
        let check = |method, if_range, expect| {
            assert_eq!(
                range_that_counts(method, Some("bytes=1-"), if_range, &digest),
                expect,
                "{if_range:?}"
            );
        };
        check(Method::Get, None, Some("bytes=1-"));
        check(Method::Get, Some(tag.as_str()), Some("bytes=1-"));
        let weak = format!("W/{tag}");
        for other in ["\"other\"", &weak, "Sun, 06 Nov 1994 08:49:37 GMT"] {
            check(Method::Get, Some(other), None);
        }
        check(Method::Head, None, None);
        assert_eq!(range_that_counts(Method::Get, None, Some(&tag), &digest), None);
    }

    #[test]
    fn reads_one_range() {
        let check = |header: &str, size, expect| {
            assert_eq!(ByteRange::parse(Some(header), size), expect, "{header} of {size}");
        };
        check("bytes=0-", 10, Part { start: 0, end: 9 });
        check("bytes=3-", 10, Part { start: 3, end: 9 });
        check("bytes=3-3", 10, Part { start: 3, end: 3 });
        check("bytes=3-99", 10, Part { start: 3, end: 9 });
        check("bytes=-3", 10, Part { start: 7, end: 9 });
        check("bytes=-99", 10, Part { start: 0, end: 9 });
        check("bytes=0-99999999999999999999999", 10, Part { start: 0, end: 9 });
        for header in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999999-"] {
            check(header, 10, Unsatisfiable);
        }
        for header in ["bytes=0-", "bytes=-1", "bytes=0-0"] {
            check(header, 0, Unsatisfiable);
        }
        for header in ["", "bytes", "bytes=", "bytes=-", "bytes=a-", "bytes=1-b", "bytes=5-3", "lines=1-2"] {
            check(header, 10, Whole);
        }
        for header in ["bytes=0-1,3-4", "bytes=+1-2", "bytes=1--2", "bytes=--1"] {
            check(header, 10, Whole);
        }
        assert_eq!(ByteRange::parse(None, 10), Whole);
        assert_eq!(Part { start: 3, end: 9 }.content_range(10).as_deref(), Some("bytes 3-9/10"));
        assert_eq!(Unsatisfiable.content_range(10).as_deref(), Some("bytes */10"));
    }
}
