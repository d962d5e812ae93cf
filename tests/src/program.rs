//! Runs a program until it ends, within a time limit.

use crate::wait::LONG;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a program that was asked to end may take.
const GRACE_SECONDS: &str = "5";

/// The exit code of coreutils' `timeout` if the program timed out.
const TIMED_OUT: i32 = 124;

/// A program that is about to be run.
pub struct Program {
    path: PathBuf,
    command: Vec<std::ffi::OsString>,
    environment: Vec<(String, Option<std::ffi::OsString>)>,
    dir: Option<PathBuf>,
    limit: Duration,
}

/// The result of a program.
#[derive(Clone)]
pub struct Finished {
    command: String,
    /// Its exit code.
    pub status: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

/// The path of a program.
///
/// # Panics
/// If it is not in `$PATH`. The message names the script that installs it.
pub fn find(name: &str) -> PathBuf {
    find_all(name).next().unwrap_or_else(|| panic!("{name} is not installed; run: {}", setup(name)))
}

/// All paths of a program, in the order of `$PATH`.
pub(crate) fn find_all(name: &str) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").expect("$PATH is set");
    // dockerd and runc are in sbin, which is not in every user's $PATH.
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).chain(sbin).collect();
    dirs.into_iter().map(move |dir| dir.join(name)).filter(|path| path.is_file())
}

/// The path of a file in the cache of tools.
///
/// # Panics
/// If it does not exist. The message names the script that installs it.
pub fn cached(file: &str, installer: &str) -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("FIRN_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("firn")))
        .or_else(|| Some(variable("HOME")?.join(".cache/firn")))
        .expect("$HOME is set");
    let path = cache.join(file);
    assert!(path.is_file(), "{} is missing; run: {installer}", path.display());
    path
}

/// The script that installs a program.
fn setup(name: &str) -> &'static str {
    if name.starts_with("nix") { "setup/nix" } else { "setup/clients" }
}

impl Program {
    /// The program with this name.
    ///
    /// # Panics
    /// If it is not installed.
    pub fn new(name: &str) -> Self {
        Self::at(find(name))
    }

    /// The program in this file.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), command: Vec::new(), environment: Vec::new(), dir: None, limit: LONG }
    }

    /// Appends these arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets this variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Removes this variable.
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.push((name.to_owned(), None));
        self
    }

    /// Runs it in this directory.
    pub fn in_dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Uses this time limit instead of the usual one.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it.
    ///
    /// # Panics
    /// If it does not start, or takes too long. It and all that it started have been ended then.
    pub fn run(self) -> Finished {
        let mut command = Command::new(find("timeout"));
        command.args(["--kill-after", GRACE_SECONDS, &self.limit.as_secs().max(1).to_string()]);
        command.arg(&self.path).args(&self.command).stdin(Stdio::null());
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let words =
            std::iter::once(self.path.as_os_str()).chain(self.command.iter().map(|word| word.as_os_str()));
        let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let output = command.output().unwrap_or_else(|error| panic!("{shown}: {error}"));
        let finished = Finished {
            command: shown,
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(finished.status != TIMED_OUT, "took longer than {} s: {finished:?}", self.limit.as_secs());
        finished
    }
}

impl Finished {
    /// Its standard output as text, without trailing white space.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Its standard output and standard error.
    pub fn all(&self) -> String {
        format!("{}\n{}", self.text(), self.stderr)
    }

    /// Its standard output, if it succeeded.
    ///
    /// # Panics
    /// If it failed. The message has all of its output.
    pub fn succeeded(self) -> String {
        assert!(self.status == 0, "{self:?}");
        self.text()
    }

    /// Its standard error, if it failed.
    ///
    /// # Panics
    /// If it succeeded.
    pub fn failed(self) -> String {
        assert!(self.status != 0, "should have failed: {self:?}");
        self.stderr
    }
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nexit status {}\n{}\n{}", self.command, self.status, self.text(), self.stderr)
    }
}
