//! One Nix process: started in a group of its own, bounded in time and output, and never left behind.

use super::{
    Nix,
    complaint::Complaint,
    failure::Obstacle,
    family::{Family, behind_bubblewrap},
    launch::{self, ProcessLimits},
};
use crate::process::{child_environment, descriptors};
use rustix::fs::statvfs;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a process that was asked to end may take over it. Nix uses the time to end its builders, which
/// run in sessions of their own that a signal to the group does not reach.
const GRACE: Duration = Duration::from_secs(5);

/// The most that Nix may print as its answer, in bytes.
const MAX_STDOUT: u64 = 256 << 20;

/// How often a build's processes are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// The longest line of stderr, in bytes: what is longer is cut. A line that Nix reports holds one of a builder's,
/// which can be anything.
const MAX_LINE: u64 = 64 << 10;

/// What one process may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How long it may take.
    pub(super) time: Duration,
    /// How much memory.
    pub(super) memory: Memory,
    /// Whether other processes come first.
    pub(super) gives_way: bool,
}

/// How much memory may be used, in bytes, and by whom.
#[derive(Debug, Clone, Copy)]
pub(super) enum Memory {
    /// No bound: what runs for a moment and starts nothing.
    Unbounded,
    /// Address space of the process, and of each that it starts.
    OneProcess(u64),
    /// Memory of the process and all that it starts together, if that is bounded at all. None of them is left when
    /// the process has ended.
    Family(Option<u64>),
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
    /// It and what it started used too much memory and were ended.
    #[error("{program} and its builders used more than {} MiB", limit >> 20)]
    Memory {
        /// Which program.
        program: &'static str,
        /// The limit that they exceeded, in bytes.
        limit: u64,
    },
    /// It printed more than any answer can be.
    #[error("{program} printed more than {MAX_STDOUT} bytes")]
    TooMuchOutput {
        /// Which program.
        program: &'static str,
    },
    /// Somebody else ended it: a person, the system for want of memory, or Firn because it ends itself. Says nothing
    /// about what it was asked for.
    #[error("{program} was ended from outside")]
    Ended {
        /// Which program.
        program: &'static str,
    },
    /// It failed, or took too long, because of circumstances.
    #[error("{obstacle}")]
    Hindered {
        /// Which ones.
        obstacle: Obstacle,
        /// What became of it.
        source: Box<ProcessError>,
    },
    /// It ended with an error.
    // Indented, so that nothing that is said looks like a line of the log.
    #[error("{program} failed with {status}: {}", stderr.join("\n  "))]
    Failed {
        /// Which program.
        program: &'static str,
        /// Its exit code, or -1 when a signal ended it.
        status: i32,
        /// What it complained of, in words.
        stderr: Vec<String>,
    },
}

impl ProcessError {
    /// It, because of this.
    pub(super) fn hindered_by(self, obstacle: Obstacle) -> Self {
        Self::Hindered { obstacle, source: Box::new(self) }
    }
}

/// What Nix regards as a full disk: less than this is free, in bytes.
const FULL: u64 = 8 << 20;

/// Whether a disk is full that builds write to.
fn disk_is_full() -> bool {
    let places = [PathBuf::from("/nix/store"), PathBuf::from("/nix/var/nix"), std::env::temp_dir()];
    places
        .iter()
        .any(|place| statvfs(place).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < FULL))
}

/// Signals that come from outside. Others are of a process's own making, such as that its stack is full.
const FROM_OUTSIDE: [Signal; 4] = [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP];

/// Whether a process that has failed was ended from outside.
fn was_ended(status: ExitStatus, complaint: &Complaint) -> bool {
    // bubblewrap, and shells, say 128 and the signal's number.
    let signal = status.signal().or_else(|| status.code()?.checked_sub(128));
    FROM_OUTSIDE.iter().any(|outside| signal == Some(outside.as_raw())) || complaint.is_interrupted()
}

/// The process groups that are running.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups(Arc<Mutex<HashSet<Pid>>>, Arc<AtomicBool>);

impl Groups {
    fn running(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.0.lock().expect("nothing panics while holding the lock")
    }

    /// From now on nothing is to run.
    fn close(&self) {
        self.1.store(true, Ordering::SeqCst);
    }

    fn is_closed(&self) -> bool {
        self.1.load(Ordering::SeqCst)
    }

    /// Returns when none is left, or false after the grace period.
    async fn gone(&self) -> bool {
        let gone = async {
            while !self.running().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(GRACE, gone).await.is_ok()
    }

    fn signal(&self, signal: Signal) {
        for pid in self.running().iter() {
            send(*pid, signal);
        }
    }
}

/// Sends a signal to the process group of a Nix process. Where bubblewrap is between, which would end everything at once
/// when it is asked to, Nix alone is asked.
fn send(group: Pid, signal: Signal) {
    let nix = behind_bubblewrap(group);
    // Fails when it is gone, which is what was wanted.
    let _ = if signal == Signal::TERM && nix != group {
        kill_process(nix, signal)
    } else {
        kill_process_group(group, signal)
    };
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
            send(pid, signal);
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

/// Returns the limit when a family uses more memory; otherwise never.
async fn exceeds(family: Option<&mut Family>, memory: Memory) -> u64 {
    let Some(family) = family else { return std::future::pending().await };
    loop {
        tokio::time::sleep(LOOK).await;
        let used = family.look();
        if let Memory::Family(Some(limit)) = memory
            && used > limit
        {
            return limit;
        }
    }
}

/// Passes over what is left of a line that was cut.
async fn skip_rest(reader: &mut (impl AsyncBufRead + Unpin), line: &[u8]) -> io::Result<()> {
    if line.ends_with(b"\n") || (line.len() as u64) < MAX_LINE {
        return Ok(());
    }
    loop {
        let buffer = reader.fill_buf().await?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(length);
        if end.is_some() || length == 0 {
            return Ok(());
        }
    }
}

impl Nix {
    /// Ends every process that is running: asks, waits, then makes it. None is started from now on. For when Firn
    /// itself ends.
    pub async fn end_all(&self) {
        self.groups.close();
        self.groups.signal(Signal::TERM);
        if !self.groups.gone().await {
            self.kill_all().await;
        }
    }

    /// The same without asking.
    pub async fn kill_all(&self) {
        self.groups.close();
        self.groups.signal(Signal::KILL);
        // Whoever has started them ends what those have started.
        self.groups.gone().await;
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
        let Bounds { memory, gives_way, .. } = bounds;
        let limits = ProcessLimits { memory, files: descriptors::original(), gives_way };
        let (file, arguments) = launch::command_line(self.isolation.as_ref(), program, arguments, limits);
        let mut command = Command::new(file);
        // Nothing is looked up by accident: no channel, no overlays. Nix's and git's own settings still count.
        command.env_clear().envs(child_environment::for_nix());
        for (variable, file) in
            [("NIX_USER_CONF_FILES", ".config/nix/nix.conf"), ("GIT_CONFIG_GLOBAL", ".gitconfig")]
        {
            if let (None, Some(home)) = (std::env::var_os(variable), std::env::home_dir()) {
                command.env(variable, home.join(file));
            }
        }
        let child = command
            .args(&arguments)
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
        // Asked after it can be found, so that either this or whoever ends all processes ends it.
        if group.groups.is_closed() {
            return Err(ProcessError::Ended { program });
        }
        let stdout = group.child.stdout.take().expect("stdout is piped");
        let stderr = group.child.stderr.take().expect("stderr is piped");

        let mut complaint = Complaint::default();
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
                while (&mut reader).take(MAX_LINE).read_until(b'\n', &mut bytes).await? > 0 {
                    skip_rest(&mut reader, &bytes).await?;
                    let text = String::from_utf8_lossy(&bytes);
                    let text = text.trim_end();
                    line(text);
                    complaint.hear(text);
                    bytes.clear();
                }
                io::Result::Ok(())
            };
            tokio::try_join!(read, follow)?;
            Ok((answer, group.child.wait().await?))
        };
        let mut family = pid.filter(|_| matches!(bounds.memory, Memory::Family(_))).map(Family::of);
        let ended = tokio::select! {
            ended = tokio::time::timeout(bounds.time, work) => match ended {
                Ok(result) => result.map_err(io),
                Err(_) => {
                    let timeout = ProcessError::Timeout { program, limit: bounds.time };
                    // Looked at before what was written is deleted.
                    let builds = matches!(bounds.memory, Memory::Family(_));
                    Err(if builds && disk_is_full() { timeout.hindered_by(Obstacle::Space) } else { timeout })
                }
            },
            limit = exceeds(family.as_mut(), bounds.memory) => Err(ProcessError::Memory { program, limit }),
        };
        if ended.is_err() {
            // While they can still be found.
            family.as_mut().map(Family::look);
            group.end().await;
        }
        group.pid = None;
        if let Some(mut family) = family {
            family.end();
        }
        let (answer, status) = ended?;
        tracing::debug!(
            program,
            status = status.code(),
            duration_ms = started.elapsed().as_millis(),
            "nix process ended"
        );
        if let Some(error) = launch::not_started(status.code()) {
            return Err(io(error));
        }
        if !status.success() && was_ended(status, &complaint) {
            return Err(ProcessError::Ended { program });
        }
        if !status.success() {
            let status = status.code().unwrap_or(-1);
            return Err(ProcessError::Failed { program, status, stderr: complaint.into_lines() });
        }
        if answer.len() as u64 > MAX_STDOUT {
            return Err(ProcessError::TooMuchOutput { program });
        }
        Ok(answer)
    }
}
