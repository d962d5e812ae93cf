//! Runs one Nix process in a process group of its own, with limits of time and output. No process is left behind.

use super::{
    Nix,
    clock::Clock,
    complaint::Complaint,
    failure::Obstacle,
    family::Family,
    launch::{self, ProcessLimits},
};
use crate::process::{ProcessGroup, child_environment, descriptors};
use rustix::fs::statvfs;
use rustix::process::Signal;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

/// Limit of Nix's standard output, in bytes.
const MAX_STDOUT: u64 = 256 << 20;

/// How often the processes of a build are measured.
const LOOK: Duration = Duration::from_millis(250);

/// The longest line of stderr, in bytes. The rest of a longer line is dropped. Lines of builders, which Nix passes
/// on, can be anything.
const MAX_LINE: u64 = 64 << 10;

/// Limits of one process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Timeout.
    pub(super) time: Duration,
    /// Limit of memory.
    pub(super) memory: Memory,
    /// Whether it runs at low priority.
    pub(super) gives_way: bool,
}

/// How much memory may be used, in bytes, and by which processes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Memory {
    /// No limit: for a process that runs for a moment and starts nothing.
    Unbounded,
    /// Address space of the process, and of each process that it starts.
    OneProcess(u64),
    /// Memory of the process and all that it starts, together; unlimited if None. When the process has ended, all of
    /// them are ended.
    Family(Option<u64>),
}

/// The message for clients where somebody ended Nix.
pub(super) const INTERRUPTED: &str = "Nix was interrupted; pull again";

/// Why a Nix process gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It did not start, or reading its output failed.
    #[error("cannot run {program}: is Nix installed, and on the PATH?")]
    Io {
        /// The program.
        program: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// It took too long and was ended.
    #[error("{program} took longer than {} s", limit.as_secs())]
    Timeout {
        /// The program.
        program: &'static str,
        /// The limit that it exceeded.
        limit: Duration,
    },
    /// It and its descendants used too much memory and were ended.
    #[error("{program} and its builders used more than {} MiB", limit >> 20)]
    Memory {
        /// The program.
        program: &'static str,
        /// The limit that they exceeded, in bytes.
        limit: u64,
    },
    /// It printed more than the limit.
    #[error("{program} printed more than {MAX_STDOUT} bytes")]
    TooMuchOutput {
        /// The program.
        program: &'static str,
    },
    /// It was ended from outside: by a person, by the system for lack of memory, or by Firn, which is ending itself.
    /// This says nothing about the request.
    #[error("{program} was ended from outside")]
    Ended {
        /// The program.
        program: &'static str,
    },
    /// It failed, or took too long, because of a temporary problem.
    #[error("{obstacle}")]
    Hindered {
        /// The problem.
        obstacle: Obstacle,
        /// The failure itself.
        source: Box<ProcessError>,
    },
    /// It ended with an error.
    // Indented, so that no line of the message looks like a line of the log.
    #[error("{program} failed with {status}: {}", stderr.join("\n  "))]
    Failed {
        /// The program.
        program: &'static str,
        /// Its exit code, or -1 when a signal ended it.
        status: i32,
        /// The errors and warnings that it printed.
        stderr: Vec<String>,
    },
}

impl ProcessError {
    /// Adds the temporary problem that caused this error.
    pub(super) fn hindered_by(self, obstacle: Obstacle) -> Self {
        Self::Hindered { obstacle, source: Box::new(self) }
    }
}

/// Nix considers a disk full if it has fewer than this many bytes free.
const FULL: u64 = 8 << 20;

/// Whether a disk that builds write to is full.
fn disk_is_full() -> bool {
    let places = [PathBuf::from("/nix/store"), PathBuf::from("/nix/var/nix"), std::env::temp_dir()];
    places
        .iter()
        .any(|place| statvfs(place).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < FULL))
}

/// Signals from outside. A process causes the others itself, for example by a stack overflow.
const FROM_OUTSIDE: [Signal; 4] = [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP];

/// Whether a process that has failed was ended from outside.
fn was_ended(status: ExitStatus, complaint: &Complaint) -> bool {
    // bubblewrap and shells exit with 128 plus the signal's number.
    let signal = status.signal().or_else(|| status.code()?.checked_sub(128));
    FROM_OUTSIDE.iter().any(|outside| signal == Some(outside.as_raw())) || complaint.is_interrupted()
}

/// Returns the limit when the family uses more memory than that. Otherwise it never returns.
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

/// Skips the rest of a line that was cut off.
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
    /// Runs a program of Nix until it ends, and returns its standard output. `line` is called with each line of
    /// stderr.
    pub(super) async fn run(
        &self,
        program: &'static str,
        arguments: Vec<OsString>,
        bounds: Bounds,
        line: impl FnMut(&str),
    ) -> Result<Vec<u8>, ProcessError> {
        self.processes.fetch_add(1, Ordering::Relaxed);
        self.run_uncounted(program, arguments, bounds, line).await
    }

    /// The same for a process that no image is the reason of.
    pub(super) async fn run_uncounted(
        &self,
        program: &'static str,
        arguments: Vec<OsString>,
        bounds: Bounds,
        line: impl FnMut(&str),
    ) -> Result<Vec<u8>, ProcessError> {
        let clock = Clock::start(bounds.time, Duration::ZERO);
        self.run_by(&clock, program, arguments, bounds, line).await
    }

    /// The same with this clock in place of the bound of time.
    pub(super) async fn run_by(
        &self,
        clock: &Clock,
        program: &'static str,
        arguments: Vec<OsString>,
        bounds: Bounds,
        mut line: impl FnMut(&str),
    ) -> Result<Vec<u8>, ProcessError> {
        let io = |source| ProcessError::Io { program, source };
        let began = std::time::Instant::now();
        let Bounds { memory, gives_way, .. } = bounds;
        let limits = ProcessLimits { memory, files: descriptors::original(), gives_way };
        let (file, arguments) = launch::command_line(self.isolation.as_ref(), program, arguments, limits);
        let mut command = Command::new(file);
        // Clear the environment, so that Nix finds no channel and no overlays. Nix's and git's own settings still
        // apply.
        command.env_clear().envs(child_environment::for_nix());
        for (variable, file) in
            [("NIX_USER_CONF_FILES", ".config/nix/nix.conf"), ("GIT_CONFIG_GLOBAL", ".gitconfig")]
        {
            if let (None, Some(home)) = (std::env::var_os(variable), std::env::home_dir()) {
                command.env(variable, home.join(file));
            }
        }
        command
            .args(&arguments)
            .env("HOME", self.expressions.home())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = ProcessGroup::spawn(&mut command).map_err(io)?;
        let mut running = self.running.enter(started).ok_or(ProcessError::Ended { program })?;
        let id = running.group.id();
        let stdout = running.child.stdout.take().expect("stdout is piped");
        let stderr = running.child.stderr.take().expect("stderr is piped");

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
                // Lines may have any bytes: builders print what they like.
                while (&mut reader).take(MAX_LINE).read_until(b'\n', &mut bytes).await? > 0 {
                    skip_rest(&mut reader, &bytes).await?;
                    let text = String::from_utf8_lossy(&bytes);
                    let text = text.trim_end();
                    line(text);
                    clock.hear(text);
                    complaint.hear(text);
                    bytes.clear();
                }
                io::Result::Ok(())
            };
            tokio::try_join!(read, follow)?;
            Ok((answer, running.child.wait().await?))
        };
        let mut family = id.filter(|_| matches!(bounds.memory, Memory::Family(_))).map(Family::of);
        let ended = tokio::select! {
            result = work => result.map_err(io),
            limit = clock.runs_out() => {
                let timeout = ProcessError::Timeout { program, limit };
                // Check the disk before the build's temporary files are deleted.
                let builds = matches!(bounds.memory, Memory::Family(_));
                Err(if builds && disk_is_full() { timeout.hindered_by(Obstacle::Space) } else { timeout })
            }
            limit = exceeds(family.as_mut(), bounds.memory) => Err(ProcessError::Memory { program, limit }),
        };
        if ended.is_err() {
            // Find the descendants while their parents still run.
            family.as_mut().map(Family::look);
            running.end().await;
        }
        running.group.forget();
        if let Some(mut family) = family {
            family.end();
        }
        let (answer, status) = ended?;
        tracing::debug!(
            program,
            status = status.code(),
            duration_ms = began.elapsed().as_millis(),
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
