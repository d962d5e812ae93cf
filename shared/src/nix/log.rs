//! Parses Nix's structured log (`--log-format internal-json`). Its lines, `@nix {…}`, say that an activity starts or
//! stops, or report on it. This module does not run Nix.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The number of lines that are kept of each builder's output.
const TAIL: usize = 100;
/// The greatest length of a line that is kept, in characters. Longer lines are cut.
const MAX_LINE: usize = 1000;
/// Limits for the output of all builders of a log together, in bytes and in lines. The server keeps hundreds of logs.
const MAX_BYTES: usize = 256 << 10;
const MAX_LINES: usize = 10_000;
/// The number of derivations that are followed. Nix's counts of builds stay correct beyond it.
const MAX_DERIVATIONS: usize = 2000;

/// Activity types (`ActivityType` in Nix's `logging.hh`), in this order: copying a path from another store,
/// downloading a file, all builds, one build, one substitution, querying a binary cache for a path.
const COPY_PATH: u64 = 100;
const FILE_TRANSFER: u64 = 101;
const BUILDS: u64 = 104;
const BUILD: u64 = 105;
const SUBSTITUTE: u64 = 108;
const QUERY_PATH_INFO: u64 = 109;
/// Result types (`ResultType` in the same file): a line of a builder's output; the numbers of builds that are done,
/// expected, running and failed.
const LOG_LINE: u64 = 101;
const PROGRESS: u64 = 105;

/// The progress of a realisation.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BuildLog {
    /// Derivations that are or were built or substituted, in alphabetical order.
    derivations: BTreeMap<String, Derivation>,
    /// The number of finished builds, as Nix counts them.
    done: u64,
    /// The number of builds that Nix expects so far.
    expected: u64,
    #[serde(skip)]
    activities: HashMap<u64, Followed>,
    /// For each line that is kept, oldest first, the derivation whose builder printed it.
    #[serde(skip)]
    spoke: VecDeque<String>,
    /// The total length of all lines that are kept, in bytes.
    #[serde(skip)]
    bytes: usize,
}

/// The progress of one derivation.
#[derive(Debug, Clone, Serialize)]
struct Derivation {
    status: Status,
    /// The last lines of the builder's output.
    log: VecDeque<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Building,
    Substituting,
    Ended,
    Failed,
}

#[derive(Debug, Clone)]
enum Followed {
    Builds,
    Derivation(String),
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
    Msg {
        level: u64,
        msg: String,
    },
    #[serde(other)]
    Other,
}

/// The meaning of one line of Nix's stderr, if it can help to explain a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spoken {
    /// An error message of Nix, without colour codes.
    Error(String),
    /// A warning of Nix, without colour codes.
    Warning(String),
    /// The message of a `builtins.trace`.
    Trace(String),
    /// A line of a builder's output.
    Builder(String),
    /// The activity with this number has started.
    Started(u64, Activity),
    /// The activity with this number has ended, with or without success.
    Stopped(u64),
}

/// An activity of Nix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// Nix builds this derivation.
    Build(String),
    /// Nix downloads a file or a store path, or queries a binary cache for one.
    Download,
}

impl Spoken {
    /// The meaning of a line. `None` if the line does not matter.
    pub fn of(line: &str) -> Option<Self> {
        match event(line)? {
            Event::Msg { level: 0, msg } => {
                let text = without_colours(&msg);
                // The output of `builtins.trace` has this level, too.
                match text.strip_prefix("trace: ") {
                    Some(traced) => Some(Self::Trace(traced.to_owned())),
                    None => text.starts_with("error").then_some(Self::Error(text)),
                }
            }
            Event::Msg { level: 1, msg } => Some(Self::Warning(without_colours(&msg))),
            Event::Start { id, kind: BUILD, mut fields } => match fields.get_mut(0)?.take() {
                serde_json::Value::String(path) => Some(Self::Started(id, Activity::Build(path))),
                _ => None,
            },
            Event::Start { id, kind: COPY_PATH | FILE_TRANSFER | SUBSTITUTE | QUERY_PATH_INFO, .. } => {
                Some(Self::Started(id, Activity::Download))
            }
            Event::Stop { id } => Some(Self::Stopped(id)),
            Event::Result { kind: LOG_LINE, mut fields, .. } => match fields.get_mut(0)?.take() {
                serde_json::Value::String(text) => Some(Self::Builder(text)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Removes colour codes, `ESC [ … m`, from a text.
fn without_colours(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default();
    let others = parts.map(|part| part.split_once('m').map_or(part, |(_, rest)| rest));
    std::iter::once(first).chain(others).collect()
}

/// Parses a line. Nix may add kinds of lines to its format, so unknown lines are ignored.
fn event(line: &str) -> Option<Event> {
    serde_json::from_str(line.strip_prefix("@nix ")?).ok()
}

impl BuildLog {
    /// Processes one line of Nix's stderr. Unknown lines are ignored.
    pub fn line(&mut self, line: &str) {
        let Some(event) = event(line) else { return };
        match event {
            Event::Start { id, kind: BUILDS, .. } => {
                self.activities.insert(id, Followed::Builds);
            }
            Event::Start { id, kind: kind @ (BUILD | SUBSTITUTE), fields } => {
                let path = fields.first().and_then(|field| field.as_str()).map(str::to_owned);
                if let Some(path) = path.filter(|_| self.derivations.len() < MAX_DERIVATIONS) {
                    let status = if kind == BUILD { Status::Building } else { Status::Substituting };
                    self.activities.insert(id, Followed::Derivation(path.clone()));
                    self.derivations.insert(path, Derivation { status, log: VecDeque::new() });
                }
            }
            Event::Stop { id } => {
                if let Some(Followed::Derivation(path)) = self.activities.remove(&id)
                    && let Some(derivation) = self.derivations.get_mut(&path)
                    && derivation.status != Status::Failed
                {
                    derivation.status = Status::Ended;
                }
            }
            Event::Result { id, kind, fields } => match (self.activities.get(&id), kind) {
                (Some(Followed::Builds), PROGRESS) => {
                    let number = |i: usize| fields.get(i).and_then(serde_json::Value::as_u64).unwrap_or(0);
                    (self.done, self.expected) = (number(0), number(1));
                }
                (Some(Followed::Derivation(path)), LOG_LINE) => {
                    let text = fields.first().and_then(|field| field.as_str());
                    if let Some(text) = text {
                        let path = path.clone();
                        self.keep(path, text);
                    }
                }
                _ => {}
            },
            // Nix reports the failure of a builder only as text: `error: builder for '/nix/store/….drv' failed …`.
            Event::Msg { level: 0, msg } => {
                let named = self.derivations.iter_mut().find(|(path, _)| msg.contains(path.as_str()));
                if let Some((_, derivation)) = named {
                    derivation.status = Status::Failed;
                }
            }
            _ => {}
        }
    }

    /// Keeps a line of a builder's output, and drops old lines above the limits. Control characters are left out,
    /// because people view the log with curl in a terminal.
    fn keep(&mut self, path: String, text: &str) {
        let line: String = text.chars().filter(|c| !c.is_control() || *c == '\t').take(MAX_LINE).collect();
        let Some(derivation) = self.derivations.get_mut(&path) else { return };
        self.bytes += line.len();
        derivation.log.push_back(line);
        self.spoke.push_back(path.clone());
        let is_too_long = derivation.log.len() > TAIL;
        while is_too_long || self.bytes > MAX_BYTES || self.spoke.len() > MAX_LINES {
            // Drops the oldest line of this builder, or of all builders.
            let at = if is_too_long { self.spoke.iter().position(|name| *name == path) } else { Some(0) };
            let Some(oldest) = at.and_then(|at| self.spoke.remove(at)) else { return };
            let lines = self.derivations.get_mut(&oldest).map(|derivation| &mut derivation.log);
            self.bytes -= lines.and_then(VecDeque::pop_front).map_or(0, |line| line.len());
            if is_too_long {
                return;
            }
        }
    }

    /// The derivations, each with the last lines of its builder's output.
    pub fn builds(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
        self.derivations
            .iter()
            .map(|(path, derivation)| (path.as_str(), derivation.log.iter().map(String::as_str)))
    }

    /// The progress in a few words, such as `building 12 of 40, python3-3.11`. `None` if nothing is running.
    pub fn summary(&self) -> Option<String> {
        let runs = |derivation: &Derivation| !matches!(derivation.status, Status::Ended | Status::Failed);
        let running = self.derivations.iter().find(|(_, derivation)| runs(derivation));
        let name = |path: &str| {
            let base = path.rsplit('/').next().unwrap_or(path);
            let name = base.split_once('-').map_or(base, |(_, name)| name);
            name.trim_end_matches(".drv").to_owned()
        };
        match running {
            Some((path, Derivation { status: Status::Substituting, .. })) => {
                Some(format!("downloading {}", name(path)))
            }
            Some((path, _)) if self.expected > 1 => {
                let current = (self.done + 1).min(self.expected);
                Some(format!("building {current} of {}, {}", self.expected, name(path)))
            }
            Some((path, _)) => Some(format!("building {}", name(path))),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRV: &str = "/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-python3-3.11.drv";

    fn log(lines: &[String]) -> BuildLog {
        let mut log = BuildLog::default();
        lines.iter().for_each(|line| log.line(line));
        log
    }

    fn start(id: u64, kind: u64, path: &str) -> String {
        format!(
            r#"@nix {{"action":"start","id":{id},"level":3,"parent":0,"text":"","type":{kind},"fields":["{path}","",1,1]}}"#
        )
    }

    fn line(id: u64, text: &str) -> String {
        format!(r#"@nix {{"action":"result","id":{id},"type":101,"fields":["{text}"]}}"#)
    }

    #[test]
    fn keeps_what_builders_say() {
        let stop = r#"@nix {"action":"stop","id":7}"#;
        let msg = r#"@nix {"action":"msg","level":0,"msg":"error"}"#;
        let others = ["@nix {garbage", "plain text", "@nix {\"action\":\"start\",\"id\":-1}"];
        let mut lines =
            vec![start(7, BUILD, DRV), line(7, "compiling"), line(8, "somebody else"), msg.into()];
        lines.extend(others.map(Into::into));
        lines.extend([stop.into(), line(7, "too late")]);
        let log = log(&lines);
        let builds: Vec<_> = log.builds().map(|(drv, lines)| (drv, lines.collect::<Vec<_>>())).collect();
        assert_eq!(builds, [(DRV, vec!["compiling"])]);
        assert_eq!(log.summary(), None, "nothing is running");
    }

    #[test]
    fn reads_lines_of_the_structured_log() {
        let check = |line: &str, expect: Option<Spoken>| assert_eq!(Spoken::of(line), expect, "{line}");
        check(&line(7, "compiling"), Some(Spoken::Builder("compiling".into())));
        check(
            r#"@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m path '\u001b[35;1mx\u001b[0m'"}"#,
            Some(Spoken::Error("error: path 'x'".into())),
        );
        check(r#"@nix {"action":"msg","level":1,"msg":"warning"}"#, Some(Spoken::Warning("warning".into())));
        check(r#"@nix {"action":"msg","level":0,"msg":"trace: x"}"#, Some(Spoken::Trace("x".into())));
        check(r#"@nix {"action":"msg","level":3,"msg":"note"}"#, None);
        check(&start(7, BUILD, DRV), Some(Spoken::Started(7, Activity::Build(DRV.into()))));
        check(&start(7, FILE_TRANSFER, "https://example.org"), Some(Spoken::Started(7, Activity::Download)));
        check(&start(7, BUILDS, ""), None);
        check(r#"@nix {"action":"stop","id":7}"#, Some(Spoken::Stopped(7)));
        check(r#"@nix {"action":"result","id":1,"type":105,"fields":[11,40,1,0]}"#, None);
        check(r#"@nix {"action":"result","id":1,"type":101,"fields":[]}"#, None);
        check("plain text", None);
    }

    #[test]
    fn summarises_the_progress() {
        assert_eq!(log(&[]).summary(), None);
        assert_eq!(log(&[start(7, BUILD, DRV)]).summary().as_deref(), Some("building python3-3.11"));
        let progress = r#"@nix {"action":"result","id":1,"type":105,"fields":[11,40,1,0]}"#;
        let lines = [start(1, BUILDS, ""), progress.into(), start(7, BUILD, DRV)];
        assert_eq!(log(&lines).summary().as_deref(), Some("building 12 of 40, python3-3.11"));
        let lines = [start(7, SUBSTITUTE, DRV)];
        assert_eq!(log(&lines).summary().as_deref(), Some("downloading python3-3.11"));
    }

    #[test]
    fn the_log_is_bounded() {
        let mut log = BuildLog::default();
        (0..5000).for_each(|id| log.line(&start(id, BUILD, &format!("/nix/store/x-{id}.drv"))));
        assert!(log.builds().count() <= MAX_DERIVATIONS);
        (0..5000).for_each(|i| log.line(&line(0, &i.to_string())));
        assert!(log.builds().all(|(_, lines)| lines.count() <= TAIL));
    }

    /// The kept lines of all builders.
    fn kept(log: &BuildLog) -> Vec<&str> {
        log.builds().flat_map(|(_, lines)| lines).collect()
    }

    #[test]
    fn keeps_the_last_lines_of_many() {
        let mut log = BuildLog::default();
        for id in 0..100 {
            log.line(&start(id, BUILD, &format!("/nix/store/x-{id:03}.drv")));
        }
        for i in 0..1000 {
            log.line(&line(0, &format!("{i}")));
        }
        assert_eq!((kept(&log).len(), kept(&log)[0]), (TAIL, "900"));
        let long = "x".repeat(5_000);
        for id in 1..100 {
            (0..10).for_each(|_| log.line(&line(id, &long)));
        }
        assert!(kept(&log).iter().all(|line| line.len() <= MAX_LINE));
        let bytes: usize = kept(&log).iter().map(|line| line.len()).sum();
        assert!(bytes <= MAX_BYTES && bytes > MAX_BYTES / 2, "{bytes}");
        // All lines of the latest builder are kept, and none of the first.
        let counts: Vec<usize> = log.builds().map(|(_, lines)| lines.count()).collect();
        assert_eq!((counts[0], counts[99]), (0, 10));
    }

    #[test]
    fn leaves_terminals_alone() {
        let escape = r"a\u001b[2Jb\rc\td";
        let log = log(&[start(7, BUILD, DRV), line(7, escape)]);
        assert_eq!(kept(&log), ["a[2Jbc\td"]);
    }

    #[test]
    fn says_who_failed() {
        let said = format!(
            r#"@nix {{"action":"msg","level":0,"msg":"error: builder for '{DRV}' failed with exit code 3"}}"#
        );
        let stop = r#"@nix {"action":"stop","id":7}"#;
        for lines in [[said.clone(), stop.into()], [stop.into(), said.clone()]] {
            let log = log(&[&[start(7, BUILD, DRV)][..], &lines].concat());
            assert_eq!(serde_json::to_value(&log).expect("JSON")["derivations"][DRV]["status"], "failed");
            assert_eq!(log.summary(), None);
        }
    }
}
