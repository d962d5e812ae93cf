//! A folder that belongs to this process alone and is removed when it ends: for blobs that are being written, and for GC
//! roots while Nix builds.

use std::fs::{File, Permissions, read_dir, remove_dir_all};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tempfile::{Builder, NamedTempFile, TempDir};

/// A folder for what is unfinished. It is locked while its process lives, so that the next one can tell what a
/// killed process has left behind.
#[derive(Debug)]
pub(crate) struct OwnFolder {
    dir: TempDir,
    _lock: File,
}

const LOCK: &str = "lock";
/// How often it is tried to remove a folder in which something is written.
const REMOVALS: usize = 10;
/// How long it takes at most to lock a folder that was just made.
const MAKING: Duration = Duration::from_secs(60);

fn is_old(dir: &Path) -> bool {
    let modified = dir.symlink_metadata().and_then(|dir| dir.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > MAKING))
}

impl OwnFolder {
    /// A new folder in `parent`, from which the folders of dead processes are removed.
    pub(crate) fn new(parent: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(parent)?;
        for entry in read_dir(parent)? {
            let dir = entry?.path();
            // A lock that is held belongs to a process that lives. A folder without a lock is just being made.
            let is_dead = match File::open(dir.join(LOCK)) {
                Ok(lock) => lock.try_lock().is_ok(),
                Err(error) => error.kind() == io::ErrorKind::NotFound && is_old(&dir),
            };
            // Another process may be removing it too.
            if is_dead
                && let Err(error) = remove_dir_all(dir)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
        }
        let dir = TempDir::new_in(parent)?;
        // Locked before others know it by its name: for them a lock that nobody holds is a dead process's.
        let unnamed = NamedTempFile::new_in(dir.path())?.into_temp_path();
        // Not open for writing, so that an operator may make the file system read-only.
        let lock = File::open(&unnamed)?;
        lock.lock()?;
        unnamed.persist(dir.path().join(LOCK))?;
        Ok(Self { dir, _lock: lock })
    }

    /// A new file in the folder.
    pub(crate) fn file(&self) -> io::Result<NamedTempFile> {
        // The usual permissions, so that every user who may read the folder may read blobs too.
        Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(self.dir.path())
    }

    /// Removes the folder, for when this process ends though something may still write in it.
    pub(crate) fn remove(&self) {
        // A file that is written meanwhile makes an attempt fail. The next process removes what is left.
        for _ in 0..REMOVALS {
            if remove_dir_all(self.dir.path()).is_ok() {
                break;
            }
        }
    }

    /// Where the folder is, for error messages.
    pub(crate) fn path(&self) -> &Path {
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
    fn many_begin_at_once() {
        let parent = tempfile::tempdir().expect("a directory");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let folders = (0..100).map(|_| OwnFolder::new(parent.path()).expect("a folder"));
                    for folder in folders.collect::<Vec<_>>() {
                        folder.file().expect("nobody has removed the folder");
                    }
                });
            }
        });
    }

    #[test]
    fn leaves_nothing_behind_and_nobody_alone() {
        let parent = tempfile::tempdir().expect("a directory");
        let parent = parent.path().join("staging");
        let first = OwnFolder::new(&parent).expect("a folder");
        first.file().expect("a file");
        let second = OwnFolder::new(&parent).expect("a folder");
        assert_eq!(folders(&parent), 2, "the first one lives");
        drop(second);
        assert_eq!(folders(&parent), 1);
        // What a killed process leaves: a folder whose lock nobody holds.
        let dead = parent.join("dead");
        std::fs::create_dir(&dead).expect("made");
        std::fs::write(dead.join(LOCK), "").expect("written");
        std::fs::write(dead.join("half a blob"), "x").expect("written");
        drop(OwnFolder::new(&parent).expect("a folder"));
        assert_eq!(folders(&parent), 1);
        assert!(!dead.exists());
    }
}
