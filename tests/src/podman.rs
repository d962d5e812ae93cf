//! podman with storage of its own.

use crate::program::{Finished, Program, find};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Containers need a runtime and limits that work where the tests run, which may itself be a container with cgroups
/// v1 or v2. The first of these that works is used.
const MANNERS: [&[&str]; 3] = [
    &["--runtime", "crun", "run", "--ulimit", "host", "--cgroups=disabled"],
    &["--runtime", "runc", "run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"],
    &["--runtime", "crun", "run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"],
];

/// podman's own exit codes if the runtime failed rather than the program in the container.
const RUNTIME_FAILED: [i32; 3] = [125, 126, 127];

/// `nobody`, who owns no files on any machine.
const NOBODY: u32 = 65_534;

/// podman on empty storage.
pub struct Podman {
    storage: TempDir,
    rootless: bool,
}

impl Podman {
    /// podman with new storage.
    ///
    /// # Panics
    /// If no directory can be created.
    #[allow(clippy::new_without_default)] // it makes a directory and may fail
    pub fn new() -> Self {
        Self::of(false)
    }

    /// podman with new storage, run by an unprivileged user without subordinate ids. Files of other owners in the
    /// image belong to this user.
    ///
    /// # Panics
    /// If no directory can be created, or its owner cannot be changed.
    pub fn rootless() -> Self {
        let podman = Self::of(true);
        std::os::unix::fs::chown(podman.storage.path(), Some(NOBODY), Some(NOBODY))
            .expect("a directory is given");
        podman
    }

    fn of(rootless: bool) -> Self {
        find("runc");
        Self { storage: TempDir::with_prefix("firn-test-podman-").expect("a temporary directory"), rootless }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.storage.path().join(name)
    }

    /// Runs podman with these arguments.
    pub fn podman<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Finished {
        let program = if self.rootless {
            let user =
                [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
            Program::new("setpriv")
                .args(user)
                .args([find("podman")])
                .args(["--storage-opt", "ignore_chown_errors=true"])
                .env("HOME", self.storage.path())
                .env("XDG_RUNTIME_DIR", self.storage.path())
                .in_dir(self.storage.path())
        } else {
            Program::new("podman")
        };
        program
            .args(["--root".as_ref(), self.path("root").as_os_str()])
            .args(["--runroot".as_ref(), self.path("run").as_os_str()])
            .args(["--tmpdir".as_ref(), self.path("tmp").as_os_str()])
            .args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "file"])
            .args(arguments)
            .run()
    }

    /// Pulls an image.
    pub fn pull(&self, image: &str) {
        self.podman(["pull", "--quiet", "--tls-verify=false", image]).succeeded();
    }

    /// Runs a command in a container without network. `options` come before the image.
    pub fn run(&self, options: &[&str], image: &str, command: &[&str]) -> Finished {
        // What works for root may not work for others.
        static WORK: [OnceLock<usize>; 2] = [OnceLock::new(), OnceLock::new()];
        let works = &WORK[usize::from(self.rootless)];
        let run = |manner: &[&str]| {
            let fixed = ["--rm", "--network=none"];
            let arguments = manner.iter().chain(&fixed).chain(options).chain([&image]).chain(command);
            self.podman(arguments.copied())
        };
        if let Some(&manner) = works.get() {
            return run(MANNERS[manner]);
        }
        let mut all = Vec::new();
        for (i, manner) in MANNERS.iter().enumerate() {
            let finished = run(manner);
            if !RUNTIME_FAILED.contains(&finished.status) {
                works.get_or_init(|| i);
                return finished;
            }
            all.push(finished);
        }
        panic!("podman cannot run containers in any of these ways: {all:#?}")
    }

    /// The storage directory.
    pub fn storage(&self) -> &Path {
        self.storage.path()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Unmounts everything, so that the directory can be removed.
        self.podman(["system", "reset", "--force"]);
        let mounted = self.path("root").join("overlay");
        Program::new("umount").args(["--lazy".as_ref(), mounted.as_os_str()]).run();
    }
}
