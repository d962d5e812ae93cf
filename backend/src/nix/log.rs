//! Nix's structured log (`--log-format internal-json`): lines `@nix {…}` that start, stop and report on
//! activities.

use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// How many lines of a builder's output are kept.
const TAIL: usize = 100;

/// Activity type of a build (`actBuild` in Nix's `logging.hh`).
const BUILD: u64 = 105;
/// Result type of a line that a builder printed (`resBuildLogLine`).
const LOG_LINE: u64 = 101;

/// What happened during a realisation.
#[derive(Debug, Clone, Default)]
pub struct BuildLog {
    running: HashMap<u64, String>,
    lines: BTreeMap<String, VecDeque<String>>,
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
enum Event {
    Start {
        id: u64,
        #[serde(rename = "type")]
        kind: u64,
        #[serde(default)]
        fields: Vec<serde_json::Value>,
    },
    Stop {
        id: u64,
    },
    Result {
        id: u64,
        #[serde(rename = "type")]
        kind: u64,
        #[serde(default)]
        fields: Vec<serde_json::Value>,
    },
    #[serde(other)]
    Other,
}

impl BuildLog {
    /// Takes in one line of Nix's stderr. What it does not understand it passes over: the format is Nix's own
    /// and grows.
    pub fn line(&mut self, line: &str) {
        let Some(event) = line.strip_prefix("@nix ").and_then(|json| serde_json::from_str(json).ok()) else {
            return;
        };
        match event {
            Event::Start { id, kind: BUILD, fields } => {
                if let Some(drv) = fields.first().and_then(|field| field.as_str()) {
                    self.running.insert(id, drv.to_owned());
                    self.lines.entry(drv.to_owned()).or_default();
                }
            }
            Event::Stop { id } => {
                self.running.remove(&id);
            }
            Event::Result { id, kind: LOG_LINE, fields } => {
                let text = fields.first().and_then(|field| field.as_str());
                if let (Some(drv), Some(text)) = (self.running.get(&id), text) {
                    let lines = self.lines.entry(drv.clone()).or_default();
                    if lines.len() == TAIL {
                        lines.pop_front();
                    }
                    lines.push_back(text.to_owned());
                }
            }
            _ => {}
        }
    }

    /// The derivations that were built, with the last lines that their builders printed.
    pub fn builds(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
        self.lines.iter().map(|(drv, lines)| (drv.as_str(), lines.iter().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_builders_say() {
        let mut log = BuildLog::default();
        for line in [
            r#"@nix {"action":"start","id":7,"level":3,"parent":0,"text":"building","type":105,"fields":["/nix/store/x.drv","",1,1]}"#,
            r#"@nix {"action":"result","id":7,"type":101,"fields":["compiling"]}"#,
            r#"@nix {"action":"result","id":8,"type":101,"fields":["somebody else"]}"#,
            r#"@nix {"action":"msg","level":0,"msg":"error"}"#,
            r#"@nix {"action":"stop","id":7}"#,
            r#"@nix {"action":"result","id":7,"type":101,"fields":["too late"]}"#,
            "@nix {garbage",
            "plain text",
        ] {
            log.line(line);
        }
        let builds: Vec<_> = log.builds().map(|(drv, lines)| (drv, lines.collect::<Vec<_>>())).collect();
        assert_eq!(builds, [("/nix/store/x.drv", vec!["compiling"])]);
    }
}
