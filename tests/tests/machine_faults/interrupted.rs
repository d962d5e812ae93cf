//! Commands that are interrupted end everything that they have started. Until then, they show their progress.

use crate::storage::nothing_is_unfinished;
use firn_tests::{
    backend::firn,
    gates::Gates,
    nix, package_set,
    program::{Program, find},
    wait::{LONG, until},
};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A running command. Its output goes to files.
struct Running {
    child: Child,
    dir: TempDir,
}

impl Running {
    /// Starts a command on a package set.
    fn start(arguments: &[&str], expression: &str) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let set = dir.path().join("set");
        package_set::write(&set, expression);
        let output = |name: &str| File::create(dir.path().join(name)).expect("a file");
        let mut command = Command::new(firn());
        command
            .args(arguments)
            .args([
                "--pkgs-path".as_ref(),
                set.as_os_str(),
                "--data".as_ref(),
                dir.path().join("data").as_os_str(),
            ])
            .env_clear()
            .env("PATH", find("nix-store").parent().expect("a folder").as_os_str())
            .env("HOME", dir.path())
            .env("NIX_CONFIG", nix::config())
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"));
        Self { child: command.spawn().expect("firn starts"), dir }
    }

    fn said(&self, file: &str) -> String {
        fs::read_to_string(self.dir.path().join(file)).expect("its output")
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Sends a signal, and waits until the command has ended. Returns the exit code.
    fn signalled(&mut self, signal: &str) -> Option<i32> {
        Program::new("kill").args(["-s", signal, &self.child.id().to_string()]).run().succeeded();
        self.child.wait().expect("its status").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes that have a path among their arguments.
fn about(path: &Path) -> String {
    let path = path.to_str().expect("UTF-8");
    // The pattern does not match the arguments of pgrep itself.
    let pattern = format!("[{}]{}", &path[..1], &path[1..]);
    Program::new("pgrep").args(["--list-full", "--full", &pattern]).run().text()
}

#[test]
fn a_build_ends_with_its_builders() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let gates = Gates::new();
        let mut build = Running::start(&["build", "gated-1"], &gates.package_set());
        until("a builder runs", LONG, || about(gates.dir()).contains("bash").then_some(()));
        until("it says what is built", LONG, || {
            build.said("stderr").contains("firn: building").then_some(())
        });
        assert!(about(&build.data()).contains("nix-store"), "this is how Nix is found");
        assert_eq!(build.signalled(signal), Some(code), "{}", build.said("stderr"));
        assert_eq!((about(&build.data()), about(gates.dir())), (String::new(), String::new()), "{signal}");
        assert_eq!(build.said("stdout"), "");
        nothing_is_unfinished(&build.data(), 0);
    }
}

/// Other commands evaluate too, and an evaluation may never end.
#[test]
fn an_evaluation_ends_with_its_command() {
    let endless = "{ system, config, ... }: let fib = n: if n < 2 then n else fib (n - 1) + fib (n - 2); \
                   in { x = builtins.seq (fib 90) null; } // builtins.seq (fib 90) { }";
    for arguments in [&["build", "x"][..], &["layers", "x"], &["search", "x"], &["check-config"]] {
        let mut running = Running::start(arguments, endless);
        until("Nix evaluates", LONG, || about(&running.data()).contains("nix-instantiate").then_some(()));
        assert_eq!(running.signalled("INT"), Some(130), "{arguments:?}: {}", running.said("stderr"));
        until("nothing evaluates", LONG, || about(&running.data()).is_empty().then_some(()));
        assert_eq!(running.said("stdout"), "", "{arguments:?}");
    }
}

#[test]
fn a_build_says_where_it_stands() {
    let mut build = Running::start(&["build", "greeting"], &package_set::small("progress"));
    assert!(build.child.wait().expect("its status").success(), "{}", build.said("stderr"));
    let (result, said) = (build.said("stdout"), build.said("stderr"));
    assert!(result.starts_with("sha256:") && result.lines().count() == 1, "{result}");
    assert!(said.starts_with("firn: looking at the package set\n"), "{said}");
    assert!(!said.contains('\r') && !said.contains('\u{1b}'), "nothing is for a terminal: {said:?}");
    // At a terminal: one line that changes.
    let set = build.dir.path().join("set").display().to_string();
    let data = build.dir.path().join("fresh").display().to_string();
    let line = format!("{} build greeting --pkgs-path {set} --data {data}", firn().display());
    let shown = Program::new("script").args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let shown = shown.env("NIX_CONFIG", nix::config()).env("TERM", "xterm").run();
    let text = shown.text();
    assert!(
        shown.status == 0 && text.contains("looking at the package set") && text.contains('\u{1b}'),
        "{text:?}"
    );
    assert!(text.ends_with(result.trim_end()), "{text:?}");
}
