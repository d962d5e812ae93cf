//! Computes the size of the NAR of a tree. Nix's database has this size of each store path. If they differ, something
//! is missing from the store path.
//!
//! The format is described in the Nix manual, "Nix Archive (NAR) format".

/// The size of a string or of a file's contents, in bytes: eight for the length, then the bytes, padded to a multiple
/// of eight.
const fn text(length: u64) -> u64 {
    8 + length.next_multiple_of(8)
}

const fn word(word: &str) -> u64 {
    text(word.len() as u64)
}

/// The size of what every node has.
const NODE: u64 = word("(") + word("type") + word(")");

/// The size of what precedes the root.
pub(super) const BEGINNING: u64 = word("nix-archive-1");

/// The size of a directory without its entries.
pub(super) const DIRECTORY: u64 = NODE + word("directory");

/// The size of what a directory adds for an entry whose name has this length.
pub(super) const fn entry(name: usize) -> u64 {
    word("entry") + word("(") + word("name") + text(name as u64) + word("node") + word(")")
}

pub(super) const fn symlink(target: usize) -> u64 {
    NODE + word("symlink") + word("target") + text(target as u64)
}

pub(super) const fn file(size: u64, is_executable: bool) -> u64 {
    let executable = if is_executable { word("executable") + word("") } else { 0 };
    NODE + word("regular") + executable + word("contents") + text(size)
}
