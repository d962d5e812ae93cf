//! How large the NAR of a tree would be: what a Nix store has on record of each store path, so that one of which
//! something is missing can be told from a whole one without reading it.
//!
//! The format is in the Nix manual, "Nix Archive (NAR) format".

/// The length of a string or of a file's contents, in bytes: eight for the length, and padding to eight.
const fn text(length: u64) -> u64 {
    8 + length.next_multiple_of(8)
}

const fn word(word: &str) -> u64 {
    text(word.len() as u64)
}

/// What every node has.
const NODE: u64 = word("(") + word("type") + word(")");

/// What comes before the root.
pub(super) const BEGINNING: u64 = word("nix-archive-1");

/// A directory without what it holds.
pub(super) const DIRECTORY: u64 = NODE + word("directory");

/// What a directory says of something that it holds, whose name has this length.
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
