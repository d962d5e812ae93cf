//! The words of a package set for why a package cannot be had, made fit to be shown to the client.
//!
//! They come from `throw` and `assert` in expressions, from nixpkgs' checks, and from Nix itself. They name files of
//! the server, which are nobody's business, beside what the client needs: the new name of a package, a URL, the
//! dependency that is unfree. [`Reason`] cuts the former and keeps the latter.

use crate::naming::source_url::without_credentials;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One line of at most [`Reason::MAX_CHARS`] characters: no absolute path, no credentials in URLs, no control
/// characters, nothing that would change a terminal's colours or the direction of text. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reason(Box<str>);

/// A text of which nothing is left to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing of the text may be shown")]
pub struct NoReason;

/// Stands for what was cut.
const CUT: &str = "…";
/// What leads to a file: cut with it.
const PREPOSITIONS: [&str; 5] = ["in", "at", "from", "file", "path"];
/// Where Nix keeps store paths. One of these is cut wherever it stands, even in the middle of a word.
const STORE: &str = "/nix/store/";
/// How a URL begins that is a path of this machine all the same.
const LOCAL_SCHEMES: [&str; 2] = ["file", "path"];

impl Reason {
    /// The longest reason, in characters.
    pub const MAX_CHARS: usize = 400;

    /// What may be shown of a text. `places` are directories of this machine: an absolute path with white space in it
    /// is recognised only if it begins with one of those, or stands in quotation marks.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn new(text: &str, places: &[&str]) -> Result<Self, NoReason> {
        let mut text = one_line(text);
        for place in places.iter().filter(|place| place.contains(char::is_whitespace)) {
            let place = one_line(place);
            // What remains of the path is cut below.
            text = text.replace(&place, "/");
        }
        let text = without_paths(&without_credentials(&text));
        let text = shortened(text.trim_matches(|c: char| c.is_whitespace() || ",;:".contains(c)));
        if text.chars().any(char::is_alphanumeric) { Ok(Self(text.into())) } else { Err(NoReason) }
    }

    /// The innermost error of an evaluation, out of what Nix wrote to stderr: there is a trace before it, and a
    /// position and hints after it.
    pub fn of_evaluation(stderr: &[String], places: &[&str]) -> Option<Self> {
        // A builder's or a trace's colours may stand before the word.
        let lines: Vec<String> = stderr.iter().map(|line| without_escapes(line)).collect();
        let is_error = |line: &String| line.trim_start().starts_with("error: ");
        let start = lines.iter().rposition(is_error)?;
        let first = lines[start].trim_start().trim_start_matches("error: ");
        // The first paragraph: nixpkgs' further ones are advice for people at their own machine.
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

impl TryFrom<String> for Reason {
    type Error = NoReason;

    fn try_from(text: String) -> Result<Self, NoReason> {
        Self::new(&text, &[])
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.0.into()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether Nix says that it would have to build something before it can go on evaluating, which it is not allowed to:
/// the words from 2.8 to 2.34.
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

/// A text as one line, with single spaces, and without characters that are not seen but have an effect.
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

/// What ends a path that stands in a text without quotation marks.
fn ends_path(c: char) -> bool {
    c.is_whitespace() || "'\"`‘’“”«»()[]{}<>,;|".contains(c)
}

/// Whether a slash after this text is within a word: `and/or`, `./x`, `~/.config`; not so after an option, as in
/// `-I/srv`.
fn is_within_word(before: &str) -> bool {
    let word = before.rsplit(ends_path).next().unwrap_or_default();
    word.ends_with(|c: char| c.is_alphanumeric() || "._~-+*".contains(c)) && !word.starts_with('-')
}

/// A text of one line without absolute paths.
fn without_paths(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = path_length(rest, &result) {
            cut(&mut result);
            // What ends the sentence stays.
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

/// How long the absolute path is with which a text begins, after another text.
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
    // Up to the closing quotation mark, whatever stands between.
    let closing = match before.chars().next_back() {
        Some('‘') => Some('’'),
        Some('“') => Some('”'),
        Some(quote @ ('\'' | '"' | '`')) => Some(quote),
        _ => None,
    };
    let quoted = closing.and_then(|closing| path.find(closing));
    let length = quoted.unwrap_or_else(|| path.find(ends_path).unwrap_or(path.len()));
    // A slash by itself is no path.
    let is_path = path[..length].chars().any(|c| c != '/');
    (is_path || local.is_some()).then_some(start + length)
}

/// How long the URL is with which a text begins, after another text.
fn url_length(text: &str, before: &str) -> Option<usize> {
    if before.ends_with(char::is_alphanumeric) {
        return None;
    }
    let scheme = text.find(|c: char| !c.is_ascii_alphanumeric() && !"+.-".contains(c))?;
    let is_local = LOCAL_SCHEMES.iter().any(|local| text[..scheme].ends_with(local));
    if scheme == 0 || is_local || !text[scheme..].starts_with("://") {
        return None;
    }
    // With a host: otherwise it is a path of some machine.
    let rest = &text[scheme + 3..];
    if !rest.starts_with(|c: char| c.is_alphanumeric() || c == '[') {
        return None;
    }
    let end = scheme + 3 + rest.find(ends_path).unwrap_or(rest.len());
    let end = text[..end].find(STORE).unwrap_or(end);
    (end > scheme + 3).then_some(end)
}

/// Stands for a path that was to come next; nothing does where a word leads to it: "in /nix/store/…".
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

/// A text of at most [`Reason::MAX_CHARS`] characters, cut between words where that is possible.
fn shortened(text: &str) -> String {
    let Some((end, _)) = text.char_indices().nth(Reason::MAX_CHARS) else { return text.to_owned() };
    let longest = text.char_indices().nth(Reason::MAX_CHARS - 1).map_or(end, |(at, _)| at);
    let cut = text[..longest].rfind(' ').filter(|at| *at > longest / 2).unwrap_or(longest);
    format!("{}{CUT}", text[..cut].trim_end())
}

#[cfg(test)]
mod tests;
