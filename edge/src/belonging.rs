//! Digests that belong to the images of a name, and their form in storage: 33 bytes each, one for how it belongs to the
//! name and 32 of the digest.

use firn_shared::oci::digest::Digest;

/// Bytes of an entry.
const ENTRY: usize = 33;

/// How a digest belongs to the images of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Belonging {
    /// As a manifest that an index lists. What it refers to has not been noted.
    Listed,
    /// With all that it refers to.
    Noted,
}

/// A digest, and how it belongs to the name.
pub(crate) type Entry = (Digest, Belonging);

/// The entries as bytes.
pub(crate) fn encode(entries: &[Entry]) -> Vec<u8> {
    let entry = |(digest, belonging): &Entry| {
        let kind = u8::from(*belonging == Belonging::Noted);
        [kind].into_iter().chain(*digest.as_bytes())
    };
    entries.iter().flat_map(entry).collect()
}

/// The entries of bytes that [`encode`] made.
pub(crate) fn decode(bytes: &[u8]) -> impl Iterator<Item = Entry> {
    bytes.chunks_exact(ENTRY).map(|entry| {
        let belonging = if entry[0] == 0 { Belonging::Listed } else { Belonging::Noted };
        (Digest::from_bytes(entry[1..].try_into().expect("the rest of an entry is a digest")), belonging)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_are_written() {
        let entries = [(Digest::of(b"a"), Belonging::Noted), (Digest::of(b"b"), Belonging::Listed)];
        let bytes = encode(&entries);
        assert_eq!(bytes.len(), 2 * ENTRY);
        assert_eq!(decode(&bytes).collect::<Vec<_>>(), entries);
        assert_eq!(decode(&bytes[1..ENTRY]).count(), 0, "half an entry is none");
    }
}
