//! A small disk for one test.

use crate::{
    program::Program,
    wait::{LONG, until},
};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A mounted tmpfs. Dropping it unmounts it.
pub struct Tmpfs {
    dir: TempDir,
}

impl Tmpfs {
    /// A disk with this many MiB.
    ///
    /// # Panics
    /// If it cannot be mounted. That requires root, and in a container a capability.
    pub fn new(mebibytes: u64) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let options = format!("size={mebibytes}m,mode=0755");
        let mount =
            Program::new("mount").args(["-t", "tmpfs", "-o", &options, "firn-test"]).args([dir.path()]);
        let mounted = mount.run();
        assert!(
            mounted.status == 0,
            "a tmpfs cannot be mounted; run the tests as root, in a container with --cap-add SYS_ADMIN: {mounted:?}"
        );
        Self { dir }
    }

    /// Its mount point.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Fills the disk. Returns the file that takes the space.
    ///
    /// # Panics
    /// If it does not fill up.
    pub fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = fs::File::create(&path).expect("a file");
        for size in [1 << 20, 4096, 1] {
            let error = loop {
                if let Err(error) = file.write_all(&vec![0; size]) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        }
        path
    }

    /// Mounts it writable or read-only.
    ///
    /// # Panics
    /// If a file on it stays open for writing.
    pub fn set_writable(&self, writable: bool) {
        let options = if writable { "remount,rw" } else { "remount,ro" };
        until("nobody writes", LONG, || {
            let mount = Program::new("mount").args(["-o", options]).args([self.path()]).run();
            (mount.status == 0).then_some(())
        });
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        Program::new("umount").args(["--lazy"]).args([self.dir.path()]).run();
    }
}
