//! Where blobs lie while they are written: a folder of this process alone, removed when it ends.

use std::fs::{File, read_dir, remove_dir_all};
use std::io;
use std::path::Path;
use tempfile::{NamedTempFile, TempDir};

/// A folder for unfinished blobs. It is locked while its process lives, so that the next one can tell what a
/// killed process has left behind.
#[derive(Debug)]
pub(super) struct Staging {
    dir: TempDir,
    _lock: File,
}

const LOCK: &str = "lock";

impl Staging {
    /// A new folder in `parent`, from which the folders of dead processes are removed.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(parent)?;
        for entry in read_dir(parent)? {
            let dir = entry?.path();
            // What cannot be locked belongs to somebody who lives; what has no lock yet is just being made.
            if File::open(dir.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok()) {
                remove_dir_all(dir)?;
            }
        }
        let dir = TempDir::new_in(parent)?;
        let lock = File::create(dir.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self { dir, _lock: lock })
    }

    /// A new file in the folder.
    pub(super) fn file(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(self.dir.path())
    }

    /// Where the folder is, for error messages.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(parent: &Path) -> usize {
        read_dir(parent).expect("the parent").count()
    }

    #[test]
    fn leaves_nothing_behind_and_nobody_alone() {
        let parent = tempfile::tempdir().expect("a directory");
        let parent = parent.path().join("staging");
        let first = Staging::new(&parent).expect("a folder");
        first.file().expect("a file");
        let second = Staging::new(&parent).expect("a folder");
        assert_eq!(folders(&parent), 2, "the first one lives");
        drop(second);
        assert_eq!(folders(&parent), 1);
        // What a killed process leaves: a folder whose lock nobody holds.
        let dead = parent.join("dead");
        std::fs::create_dir(&dead).expect("made");
        std::fs::write(dead.join(LOCK), "").expect("written");
        std::fs::write(dead.join("half a blob"), "x").expect("written");
        drop(Staging::new(&parent).expect("a folder"));
        assert_eq!(folders(&parent), 1);
        assert!(!dead.exists());
    }
}
