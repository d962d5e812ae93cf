//! A server that runs until it is dropped, and then ends with all that it started.
//!
//! A shell script supervises it in a process of its own. So the server also ends if the test program is killed, or if
//! it is a `static` that is never dropped.

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

/// A running server. Its directory is removed after it has ended.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    scratch: PathBuf,
    supervisor: Child,
    process: u32,
    hold: Option<ChildStdin>,
}

/// Creates a new directory for a server.
///
/// # Panics
/// If it cannot be created.
pub fn scratch(name: &str) -> PathBuf {
    let prefix = format!("firn-test-{name}-");
    tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory").keep()
}

/// Whether a program of this name runs in a session, in any process group.
pub fn session_runs(session: u32, name: &str) -> bool {
    let found = Program::new("pgrep").args(["--session", &session.to_string(), "--exact", name]).run();
    found.status == 0
}

impl Service {
    /// Starts a server in its directory. When asked to end, it gets `grace`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start<S: AsRef<OsStr>>(
        name: &'static str,
        scratch: PathBuf,
        grace: Duration,
        environment: &[(String, Option<String>)],
        command: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut supervisor = Command::new(find("bash"));
        supervisor.args(["-c", SUPERVISE, "supervise"]).arg(&scratch).arg(grace.as_secs().to_string());
        // The server's environment is not that of the supervisor, which needs its tools.
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

    /// Its output so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.scratch.join("log")).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process)).unwrap_or_default();
        // The state follows the program's name, which is in parentheses.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    /// Waits until `ask` returns an answer.
    ///
    /// # Panics
    /// If the server ends, or this takes too long.
    pub fn until<T>(&self, what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
        until(&format!("{}: {what}", self.name), limit, || {
            let answer = ask();
            assert!(answer.is_some() || self.runs(), "{} has ended by itself:\n{}", self.name, self.log());
            answer
        })
    }

    /// Ends it and all that it started, and waits until they have ended.
    pub fn stop(&mut self) {
        self.hold = None;
        // Fails only if it has been waited for already.
        let _ = self.supervisor.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // If a test fails, the logs of its servers are the only evidence.
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
