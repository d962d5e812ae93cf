//! One Nix process: started in a group of its own, bounded in time and output, and never left behind.

use super::Nix;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};
use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a process that was asked to end may take over it. Nix uses the time to end its builders, which
/// run in sessions of their own that a signal to the group does not reach.
const GRACE: Duration = Duration::from_secs(5);

/// The most that Nix may print as its answer, in bytes.
const MAX_STDOUT: u64 = 256 << 20;

/// How much of stderr is kept, in lines.
const STDERR_TAIL: usize = 50;

/// What one process may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How long it may take.
    pub(super) time: Duration,
    /// Address space, in bytes.
    pub(super) memory: Option<u64>,
}

/// Why a Nix process gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It did not start, or could not be talked to.
    #[error("cannot run {program}: is Nix installed, and on the PATH?")]
    Io {
        /// Which program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It took too long and was ended.
    #[error("{program} took longer than {} s", limit.as_secs())]
    Timeout {
        /// Which program.
        program: &'static str,
        /// The limit that it exceeded.
        limit: Duration,
    },
    /// It printed more than any answer can be.
    #[error("{program} printed more than {MAX_STDOUT} bytes")]
    TooMuchOutput {
        /// Which program.
        program: &'static str,
    },
    /// It ended with an error.
    #[error("{program} failed with {status}: {}", stderr.join("\n"))]
    Failed {
        /// Which program.
        program: &'static str,
        /// Its exit code, or -1 when a signal ended it.
        status: i32,
        /// The last lines it wrote to stderr.
        stderr: Vec<String>,
    },
}

/// The process groups that are running.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups(Arc<Mutex<HashSet<Pid>>>);

impl Groups {
    fn running(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.0.lock().expect("nothing panics while holding the lock")
    }

    fn signal(&self, signal: Signal) {
        for pid in self.running().iter() {
            // Fails when the group is gone, which is what was wanted.
            let _ = kill_process_group(*pid, signal);
        }
    }
}

/// Ends the whole process group unless it has ended by itself.
struct Group {
    child: Child,
    /// The group's id.
    id: Option<Pid>,
    /// The same while the group runs.
    pid: Option<Pid>,
    groups: Groups,
}

impl Group {
    /// Asks the group to end, then makes it.
    async fn end(&mut self) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
            // Only fails when the process has been waited for already.
            let _ = self.child.wait().await;
        }
        self.pid = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            // Fails when the group is gone, which is what was wanted.
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Reached with a pid only when the build was cancelled; nobody is left to wait for a grace period.
        // Builders die with the Nix process that started them.
        self.signal(Signal::KILL);
        if let Some(pid) = self.id {
            self.groups.running().remove(&pid);
        }
    }
}

impl Nix {
    /// Ends every process that is running: asks, waits, then makes it. For when the server ends.
    pub async fn end_all(&self) {
        self.groups.signal(Signal::TERM);
        let gone = async {
            while !self.groups.running().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(GRACE, gone).await.is_err() {
            self.groups.signal(Signal::KILL);
        }
    }

    /// Runs a program of Nix to its end and returns what it printed. Each line of stderr goes to `line`.
    pub(super) async fn run(
        &self,
        program: &'static str,
        arguments: Vec<OsString>,
        bounds: Bounds,
        mut line: impl FnMut(&str),
    ) -> Result<Vec<u8>, ProcessError> {
        let io = |source| ProcessError::Io { program, source };
        self.processes.fetch_add(1, Ordering::Relaxed);
        let started = std::time::Instant::now();
        let mut command = Command::new(program);
        // Nothing is looked up by accident: no channel, no overlays. Nix's and git's own settings still count.
        for (variable, file) in
            [("NIX_USER_CONF_FILES", ".config/nix/nix.conf"), ("GIT_CONFIG_GLOBAL", ".gitconfig")]
        {
            if let (None, Some(home)) = (std::env::var_os(variable), std::env::home_dir()) {
                command.env(variable, home.join(file));
            }
        }
        let child = command
            .args(&arguments)
            .env_remove("NIX_PATH")
            .env_remove("XDG_CONFIG_HOME")
            .env("HOME", self.expressions.home())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(io)?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let groups = self.groups.clone();
        groups.running().extend(pid);
        let mut group = Group { child, id: pid, pid, groups };
        if let (Some(pid), Some(memory)) = (pid, bounds.memory) {
            let limit = Rlimit { current: Some(memory), maximum: Some(memory) };
            prlimit(Some(pid), Resource::As, limit).map_err(|error| io(error.into()))?;
        }
        let stdout = group.child.stdout.take().expect("stdout is piped");
        let stderr = group.child.stderr.take().expect("stderr is piped");

        let mut tail = std::collections::VecDeque::new();
        let work = async {
            let mut answer = Vec::new();
            let read = async {
                let read = stdout.take(MAX_STDOUT + 1).read_to_end(&mut answer).await;
                read.map(|_| ())
            };
            let follow = async {
                let mut reader = BufReader::new(stderr);
                let mut bytes = Vec::new();
                // Lines of any bytes: builders print what they like.
                while reader.read_until(b'\n', &mut bytes).await? > 0 {
                    let text = String::from_utf8_lossy(&bytes);
                    let text = text.trim_end();
                    line(text);
                    if tail.len() == STDERR_TAIL {
                        tail.pop_front();
                    }
                    tail.push_back(text.to_owned());
                    bytes.clear();
                }
                io::Result::Ok(())
            };
            tokio::try_join!(read, follow)?;
            Ok((answer, group.child.wait().await?))
        };
        let (answer, status) = match tokio::time::timeout(bounds.time, work).await {
            Ok(result) => result.map_err(io)?,
            Err(_) => {
                group.end().await;
                return Err(ProcessError::Timeout { program, limit: bounds.time });
            }
        };
        group.pid = None;
        tracing::debug!(
            program,
            status = status.code(),
            duration_ms = started.elapsed().as_millis(),
            "nix process ended"
        );
        if !status.success() {
            let status = status.code().unwrap_or(-1);
            return Err(ProcessError::Failed { program, status, stderr: tail.into() });
        }
        if answer.len() as u64 > MAX_STDOUT {
            return Err(ProcessError::TooMuchOutput { program });
        }
        Ok(answer)
    }
}
