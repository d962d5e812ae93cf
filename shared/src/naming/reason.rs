//! Error messages from Nix about a package, made safe to show to clients.
//!
//! The messages come from `throw` and `assert` in Nix expressions, from the checks of nixpkgs, and from Nix itself.
//! They contain what the client needs, such as a package's new name, a URL or the unfree dependency. They also
//! contain paths on the server, which the client must not see. [`Reason`] removes the paths and keeps the rest.

use crate::naming::source_url::without_credentials;
use serde_with::{DeserializeFromStr, SerializeDisplay};
use std::{fmt, str::FromStr};

/// One line of at most [`Reason::MAX_CHARS`] characters. It is never empty. It contains no absolute paths, no
/// credentials in URLs, no control characters, and nothing that changes a terminal's colours or the direction of
/// text.
#[derive(Debug, Clone, PartialEq, Eq, SerializeDisplay, DeserializeFromStr)]
pub struct Reason(Box<str>);

/// After the removals nothing is left of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing of the text may be shown")]
pub struct NoReason;

/// Replaces removed text.
const CUT: &str = "…";
/// Words that are removed together with a path that follows them.
const PREPOSITIONS: [&str; 5] = ["in", "at", "from", "file", "path"];
/// The Nix store. A store path is removed wherever it occurs, even in the middle of a word.
const STORE: &str = "/nix/store/";
/// The schemes of URLs that contain a path of this machine.
const LOCAL_SCHEMES: [&str; 2] = ["file", "path"];

impl Reason {
    /// The greatest length of a reason, in characters.
    pub const MAX_CHARS: usize = 400;

    /// The parts of a text that may be shown. An absolute path with white space in it is recognised only if it is in
    /// quotation marks or begins with one of `places`, which are directories of this machine.
    ///
    /// # Errors
    /// If nothing is left.
    pub fn new(text: &str, places: &[&str]) -> Result<Self, NoReason> {
        let mut text = one_line(text);
        for place in places.iter().filter(|place| place.contains(char::is_whitespace)) {
            let place = one_line(place);
            // The code below removes the rest of the path.
            text = text.replace(&place, "/");
        }
        let text = without_paths(&without_credentials(&text));
        let text = shortened(text.trim_matches(|c: char| c.is_whitespace() || ",;:".contains(c)));
        if text.chars().any(char::is_alphanumeric) { Ok(Self(text.into())) } else { Err(NoReason) }
    }

    /// The innermost error of an evaluation, from Nix's stderr. A trace precedes it; a position and hints follow it.
    pub fn of_evaluation(stderr: &[String], places: &[&str]) -> Option<Self> {
        // Colour codes of a builder or a trace may precede the word `error`.
        let lines: Vec<String> = stderr.iter().map(|line| without_escapes(line)).collect();
        let is_error = |line: &String| line.trim_start().starts_with("error: ");
        let start = lines.iter().rposition(is_error)?;
        let first = lines[start].trim_start().trim_start_matches("error: ");
        // Only the first paragraph. Further paragraphs of nixpkgs give advice that does not apply to clients.
        let rest = lines[start + 1..].iter().map(|line| line.trim()).take_while(|line| {
            !line.is_empty()
                && !line.starts_with("at /")
                && !line.starts_with("(use '--")
                && !line.starts_with('…')
        });
        let text = std::iter::once(first).chain(rest).collect::<Vec<_>>().join(" ");
        Self::new(&text, places).ok()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Reason {
    type Err = NoReason;

    fn from_str(text: &str) -> Result<Self, NoReason> {
        Self::new(text, &[])
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether Nix failed because the evaluation needs to build something first (import from derivation), which is not
/// allowed. Recognises the messages of Nix 2.8 to 2.34.
pub fn is_import_from_derivation(stderr: &[String]) -> bool {
    stderr.iter().any(|line| line.contains("allow-import-from-derivation"))
}

/// A text without terminals' escape sequences (ECMA-48): `ESC [ … letter`, `ESC ] … BEL`, `ESC` and one character.
fn without_escapes(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            result.push(c);
            continue;
        }
        match chars.next() {
            Some('[') => {
                chars.find(|c| ('\u{40}'..='\u{7e}').contains(c));
            }
            Some(']') => {
                chars.find(|c| *c == '\u{7}' || *c == '\u{1b}');
            }
            _ => {}
        }
    }
    result
}

/// A text as one line, with single spaces, and without invisible characters that have an effect.
fn one_line(text: &str) -> String {
    let is_invisible = |c: &char| {
        matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let text: String = without_escapes(text)
        .chars()
        .filter(|c| !is_invisible(c))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a character ends a path that is not in quotation marks.
fn ends_path(c: char) -> bool {
    c.is_whitespace() || "'\"`‘’“”«»()[]{}<>,;|".contains(c)
}

/// Whether a slash after this text is within a word, as in `and/or`, `./x` or `~/.config`. A slash after an option,
/// as in `-I/srv`, is not.
fn is_within_word(before: &str) -> bool {
    let word = before.rsplit(ends_path).next().unwrap_or_default();
    word.ends_with(|c: char| c.is_alphanumeric() || "._~-+*".contains(c)) && !word.starts_with('-')
}

/// Removes absolute paths from a text of one line.
fn without_paths(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = path_length(rest, &result) {
            cut(&mut result);
            // Punctuation that ends the sentence stays.
            let path = &rest[..length];
            let kept = path.trim_end_matches(|c| ".:!?".contains(c));
            rest = &rest[kept.len().max(1)..];
            if result.is_empty() || result.ends_with(' ') {
                rest = rest.strip_prefix(' ').unwrap_or(rest);
                if rest.starts_with(|c| ".,:;".contains(c)) {
                    result.truncate(result.trim_end().len());
                }
            }
            continue;
        }
        if let Some(length) = url_length(rest, &result) {
            result.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        result.push(c);
        rest = &rest[c.len_utf8()..];
    }
    result
}

/// The length in bytes of the absolute path at the beginning of `text`, if there is one. `before` is the preceding
/// text.
fn path_length(text: &str, before: &str) -> Option<usize> {
    let local = LOCAL_SCHEMES.iter().find_map(|scheme| {
        let rest = text.strip_prefix(scheme)?.strip_prefix(':')?;
        let is_path = rest.starts_with('/') && !before.ends_with(char::is_alphanumeric);
        is_path.then_some(scheme.len() + 1)
    });
    let start = match local {
        Some(start) => start,
        None if text.starts_with(STORE) => 0,
        None if text.starts_with('/') && !is_within_word(before) => 0,
        None => return None,
    };
    let path = &text[start..];
    // A path in quotation marks ends at the closing one, whatever is in between.
    let closing = match before.chars().next_back() {
        Some('‘') => Some('’'),
        Some('“') => Some('”'),
        Some(quote @ ('\'' | '"' | '`')) => Some(quote),
        _ => None,
    };
    let quoted = closing.and_then(|closing| path.find(closing));
    let length = quoted.unwrap_or_else(|| path.find(ends_path).unwrap_or(path.len()));
    // A lone slash is not a path.
    let is_path = path[..length].chars().any(|c| c != '/');
    (is_path || local.is_some()).then_some(start + length)
}

/// The length in bytes of the URL at the beginning of `text`, if there is one. `before` is the preceding text.
fn url_length(text: &str, before: &str) -> Option<usize> {
    if before.ends_with(char::is_alphanumeric) {
        return None;
    }
    let scheme = text.find(|c: char| !c.is_ascii_alphanumeric() && !"+.-".contains(c))?;
    let is_local = LOCAL_SCHEMES.iter().any(|local| text[..scheme].ends_with(local));
    if scheme == 0 || is_local || !text[scheme..].starts_with("://") {
        return None;
    }
    // Without a host, the URL is a path on some machine.
    let rest = &text[scheme + 3..];
    if !rest.starts_with(|c: char| c.is_alphanumeric() || c == '[') {
        return None;
    }
    let end = scheme + 3 + rest.find(ends_path).unwrap_or(rest.len());
    let end = text[..end].find(STORE).unwrap_or(end);
    (end > scheme + 3).then_some(end)
}

/// Appends the replacement for a removed path. If a preposition precedes the path, as in "in /nix/store/…", removes the
/// preposition instead.
fn cut(result: &mut String) {
    let without_space = result.trim_end();
    let word_start = without_space.rfind(' ').map_or(0, |space| space + 1);
    let is_preposition =
        without_space.len() < result.len() && PREPOSITIONS.contains(&&without_space[word_start..]);
    if is_preposition {
        result.truncate(word_start);
    } else {
        result.push_str(CUT);
    }
}

/// Shortens a text to at most [`Reason::MAX_CHARS`] characters, between words if possible.
fn shortened(text: &str) -> String {
    let Some((end, _)) = text.char_indices().nth(Reason::MAX_CHARS) else { return text.to_owned() };
    let longest = text.char_indices().nth(Reason::MAX_CHARS - 1).map_or(end, |(at, _)| at);
    let cut = text[..longest].rfind(' ').filter(|at| *at > longest / 2).unwrap_or(longest);
    format!("{}{CUT}", text[..cut].trim_end())
}

#[cfg(test)]
mod tests;
