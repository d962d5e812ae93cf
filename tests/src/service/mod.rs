//! A server that runs while somebody holds it, and ends with all that it started.
//!
//! The supervising is a shell script of its own process: it outlives a test program that is killed, and a
//! `static` that is never dropped.

use crate::{
    program::{Program, find},
    wait::{LONG, until},
};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

const SUPERVISE: &str = include_str!("supervise.sh");

/// A running server, with a directory of its own that is removed after it.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    scratch: PathBuf,
    supervisor: Child,
    process: u32,
    hold: Option<ChildStdin>,
}

/// A new directory for a server.
///
/// # Panics
/// When it cannot be made.
pub fn scratch(name: &str) -> PathBuf {
    let prefix = format!("firn-test-{name}-");
    tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory").keep()
}

/// Whether a program of this name runs in a session, in whatever process group.
pub fn session_runs(session: u32, name: &str) -> bool {
    let found = Program::new("pgrep").args(["--session", &session.to_string(), "--exact", name]).run();
    found.status == 0
}

impl Service {
    /// Starts a server in its directory. It gets `grace` to end when asked to.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start<S: AsRef<OsStr>>(
        name: &'static str,
        scratch: PathBuf,
        grace: Duration,
        environment: &[(String, Option<String>)],
        command: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut supervisor = Command::new(find("bash"));
        supervisor.args(["-c", SUPERVISE, "supervise"]).arg(&scratch).arg(grace.as_secs().to_string());
        // The server's environment is not the supervisor's, which needs its tools.
        supervisor.arg(find("env"));
        for (name, _) in environment.iter().filter(|(_, value)| value.is_none()) {
            supervisor.args(["-u", name]);
        }
        supervisor
            .args(environment.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?))));
        supervisor.args(command).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut supervisor = supervisor.spawn().expect("bash starts");
        let stdout = supervisor.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the supervisor says which process it started");
        let process = line.trim().parse().expect("a process number");
        let hold = supervisor.stdin.take();
        Self { name, scratch, supervisor, process, hold }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.scratch
    }

    /// Its process, which leads a session.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Everything that it has said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.scratch.join("log")).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process)).unwrap_or_default();
        // The state follows the program's name, which is in parentheses.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    /// Asks until the server gives the answer.
    ///
    /// # Panics
    /// When it ends, or takes too long.
    pub fn until<T>(&self, what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
        until(&format!("{}: {what}", self.name), limit, || {
            let answer = ask();
            assert!(answer.is_some() || self.runs(), "{} has ended by itself:\n{}", self.name, self.log());
            answer
        })
    }

    /// Ends it and all that it started, and waits for that.
    pub fn stop(&mut self) {
        self.hold = None;
        // It fails only when it has been waited for already.
        let _ = self.supervisor.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // What a failed test's servers said is all there is to learn from.
        if std::thread::panicking() {
            let log = self.log();
            let start = log.char_indices().nth_back(8_000).map_or(0, |(at, _)| at);
            eprintln!("--- log of {}:\n{}", self.name, &log[start..]);
        }
        self.stop();
        if self.scratch.exists() && !std::thread::panicking() {
            until("the server's directory is removed", LONG, || (!self.scratch.exists()).then_some(()));
        }
    }
}
