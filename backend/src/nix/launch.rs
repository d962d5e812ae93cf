//! Starts a program of Nix within its limits, and in isolation if that is configured.
//!
//! Limits set on a running process do not affect what it has already started: bubblewrap starts Nix, and Nix starts
//! builders. So a shell sets the limits and then becomes the program. They hold from its first instruction.

use super::{Memory, isolation::Isolation};
use std::ffi::OsString;
use std::io;

/// The shell. Every machine has it there (POSIX; C's `system` uses it too).
const SHELL: &str = "/bin/sh";

/// The nice value of a process with low priority (`man 7 sched`).
const LOW_PRIORITY: i32 = 19;

/// Exit codes of a shell if the program does not exist, and if it cannot be executed (POSIX, "Exit Status for
/// Commands"). Programs of Nix use neither.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// Limits for a program and all that it starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessLimits {
    /// Limit of memory. Only [`Memory::OneProcess`] is enforced here.
    pub(super) memory: Memory,
    /// How many files each process may have open. None if Firn's own limit was not raised.
    pub(super) files: Option<u64>,
    /// Whether the program runs at low priority.
    pub(super) gives_way: bool,
}

impl ProcessLimits {
    /// The script of the shell that becomes the program.
    fn script(self) -> String {
        let mut script = String::new();
        if let Some(files) = self.files {
            script.push_str(&format!("ulimit -S -n {files} && "));
        }
        if let Memory::OneProcess(bytes) = self.memory {
            script.push_str(&format!("ulimit -v {} && ", bytes >> 10));
        }
        script.push_str("exec ");
        if self.gives_way {
            script.push_str(&format!("nice -n {LOW_PRIORITY} "));
        }
        script + "\"$0\" \"$@\""
    }
}

/// The command line that starts a program.
pub(super) fn command_line(
    isolation: Option<&Isolation>,
    program: &str,
    arguments: Vec<OsString>,
    limits: ProcessLimits,
) -> (OsString, Vec<OsString>) {
    let (program, arguments) = match isolation {
        Some(isolation) => isolation.wrap(program.as_ref(), &arguments),
        None => (program.into(), arguments),
    };
    let shell = ["-c".into(), limits.script().into(), program];
    (SHELL.into(), shell.into_iter().chain(arguments).collect())
}

/// Why the program did not start, if the exit code says so.
pub(super) fn not_started(status: Option<i32>) -> Option<io::Error> {
    let kind = match status? {
        NOT_FOUND => io::ErrorKind::NotFound,
        NOT_EXECUTABLE => io::ErrorKind::PermissionDenied,
        _ => return None,
    };
    Some(kind.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::OwnFiles;
    use std::process::Command;

    /// The output of a program that is started with these limits.
    fn prints(
        isolation: Option<&Isolation>,
        limits: ProcessLimits,
        program: &str,
        arguments: &[&str],
    ) -> String {
        let arguments = arguments.iter().map(OsString::from).collect();
        let (file, arguments) = command_line(isolation, program, arguments, limits);
        let output = Command::new(file).args(arguments).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn process_limits_hold_from_the_first_instruction() {
        let limits = ProcessLimits { memory: Memory::OneProcess(3 << 30), files: Some(100), gives_way: true };
        let isolation = Isolation::new(&OwnFiles::default()).expect("setup/nix installs bubblewrap");
        for isolation in [None, Some(&isolation)] {
            let check = |program: &str, arguments: &[&str], expect: &str| {
                assert_eq!(prints(isolation, limits, program, arguments), expect, "{program} {isolation:?}");
            };
            check("nice", &[], "19");
            check("sh", &["-c", "ulimit -S -n; ulimit -v"], "100 3145728");
            check("sh", &["-c", "nice sh -c 'ulimit -n'"], "100");
            check("printf", &["<%s>", "a b", "$HOME", "\"; exit 1"], "<a b><$HOME><\"; exit 1>");
        }
        let unlimited = ProcessLimits { memory: Memory::Unbounded, files: None, gives_way: false };
        assert_eq!(prints(None, unlimited, "echo", &["x"]), "x");
    }

    #[test]
    fn says_when_there_is_no_such_program() {
        let limits = ProcessLimits { memory: Memory::Unbounded, files: Some(100), gives_way: false };
        for (program, expect) in [
            ("firn-no-such-program", io::ErrorKind::NotFound),
            ("/etc/passwd", io::ErrorKind::PermissionDenied),
        ] {
            let (file, arguments) = command_line(None, program, Vec::new(), limits);
            let status = Command::new(file).args(arguments).output().expect("it runs").status;
            assert_eq!(not_started(status.code()).expect("not started").kind(), expect, "{program}");
        }
        assert!(
            not_started(Some(0)).is_none() && not_started(Some(1)).is_none() && not_started(None).is_none()
        );
    }
}
