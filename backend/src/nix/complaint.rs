//! The errors and warnings on the stderr of a Nix process: the first lines and the last ones.
//!
//! The first error causes those after it. Within one error, the innermost part comes last and says most.

use firn_shared::nix::log::Spoken;
use std::collections::VecDeque;

/// How many lines are kept from the beginning, and how many from the end.
const KEPT: usize = 30;

/// The longest line that is kept, in characters. The rest of a longer line is cut off.
const MAX_LINE: usize = 2000;

/// The message of a Nix process that was asked to end; its exit code is 1. Nix 2.8, 2.26 and 2.34 use these words.
const INTERRUPTED: &str = "error: interrupted by the user";

/// Errors and warnings as text, read from plain lines or from Nix's structured log.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    first: Vec<String>,
    last: VecDeque<String>,
    left_out: usize,
    is_interrupted: bool,
}

impl Complaint {
    /// Reads a line of stderr.
    pub(super) fn hear(&mut self, line: &str) {
        if !line.starts_with("@nix ") {
            self.keep(line);
        } else if let Some(Spoken::Error(text) | Spoken::Warning(text)) = Spoken::of(line) {
            text.lines().for_each(|line| self.keep(line));
        }
    }

    /// Whether Nix was asked to end.
    pub(super) fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }

    /// The lines that were kept.
    pub(super) fn into_lines(self) -> Vec<String> {
        let gap = (self.left_out > 0).then(|| format!("… {} lines left out …", self.left_out));
        self.first.into_iter().chain(gap).chain(self.last).collect()
    }

    fn keep(&mut self, line: &str) {
        let line = line.trim_end();
        self.is_interrupted |= line == INTERRUPTED;
        // Control characters, which could move a terminal's cursor, are left out.
        let line = line.chars().filter(|c| !c.is_control() || *c == '\t').take(MAX_LINE).collect();
        if self.first.len() < KEPT {
            self.first.push(line);
            return;
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(said: &[String]) -> Vec<String> {
        let mut complaint = Complaint::default();
        said.iter().for_each(|line| complaint.hear(line));
        complaint.into_lines()
    }

    #[test]
    fn keeps_messages_of_the_structured_log() {
        let said = [
            r#"@nix {"action":"start","id":1,"level":3,"parent":0,"text":"x","type":105}"#.to_owned(),
            r#"@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m one\n\n       two"}"#.into(),
            r#"@nix {"action":"msg","level":0,"msg":"trace: three"}"#.into(),
            "four\u{1b}[2J\r  ".into(),
        ];
        assert_eq!(lines(&said), ["error: one", "", "       two", "four[2J"]);
    }

    #[test]
    fn long_output_keeps_its_first_and_last_lines() {
        let said: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
        let kept = lines(&said);
        assert_eq!(kept.len(), 2 * KEPT + 1);
        assert_eq!((kept[0].as_str(), kept[KEPT].as_str()), ("0", "… 940 lines left out …"));
        assert_eq!(kept[2 * KEPT], "999");
        assert_eq!(lines(&["ä".repeat(5000)])[0].chars().count(), MAX_LINE);
    }

    #[test]
    fn hears_that_it_is_interrupted() {
        let check = |line: &str, expect: bool| {
            let mut complaint = Complaint::default();
            complaint.hear(line);
            assert_eq!(complaint.is_interrupted(), expect, "{line}");
        };
        check("error: interrupted by the user", true);
        check(
            r#"@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m interrupted by the user"}"#,
            true,
        );
        check(
            r#"@nix {"action":"result","id":1,"type":101,"fields":["error: interrupted by the user"]}"#,
            false,
        );
        check("error: it was interrupted by the user", false);
    }
}
