//! podman with storage of its own.

use crate::program::{Finished, Program};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Containers need a runtime and a set of limits that work where the tests run, which may itself be a
/// container with cgroups of the first or the second version: the first of these that works is used.
const MANNERS: [&[&str]; 3] = [
    &["--runtime", "crun", "run", "--ulimit", "host", "--cgroups=disabled"],
    &["--runtime", "runc", "run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"],
    &["--runtime", "crun", "run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"],
];

/// podman's own status when the runtime, not the program in the container, has failed.
const RUNTIME_FAILED: [i32; 3] = [125, 126, 127];

/// podman on empty storage.
pub struct Podman {
    storage: TempDir,
}

impl Podman {
    /// With new storage.
    ///
    /// # Panics
    /// When no directory can be made.
    #[allow(clippy::new_without_default)] // it makes a directory and may fail
    pub fn new() -> Self {
        crate::program::find("runc");
        Self { storage: TempDir::with_prefix("firn-test-podman-").expect("a temporary directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.storage.path().join(name)
    }

    /// podman with these arguments.
    pub fn podman<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Finished {
        Program::new("podman")
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
        static WORKS: OnceLock<usize> = OnceLock::new();
        let run = |manner: &[&str]| {
            let fixed = ["--rm", "--network=none"];
            let arguments = manner.iter().chain(&fixed).chain(options).chain([&image]).chain(command);
            self.podman(arguments.copied())
        };
        if let Some(&works) = WORKS.get() {
            return run(MANNERS[works]);
        }
        let mut all = Vec::new();
        for (i, manner) in MANNERS.iter().enumerate() {
            let finished = run(manner);
            if !RUNTIME_FAILED.contains(&finished.status) {
                WORKS.get_or_init(|| i);
                return finished;
            }
            all.push(finished);
        }
        panic!("podman can run containers in no manner that is known: {all:#?}")
    }

    /// Where the storage is.
    pub fn storage(&self) -> &Path {
        self.storage.path()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Unmounts what is mounted, so that the directory can be removed.
        self.podman(["system", "reset", "--force"]);
        let mounted = self.path("root").join("overlay");
        Program::new("umount").args(["--lazy".as_ref(), mounted.as_os_str()]).run();
    }
}
