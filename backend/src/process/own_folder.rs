//! A folder of this process for unfinished blobs, and for links while Nix builds. It is removed when the process
//! ends.

use std::fs::{File, Permissions, read_dir, remove_dir_all};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tempfile::{Builder, NamedTempFile, TempDir};

/// A folder for unfinished files. It is locked while its process runs, so that the next process recognises the
/// folders of killed ones.
#[derive(Debug)]
pub(crate) struct OwnFolder {
    dir: TempDir,
    _lock: File,
}

const LOCK: &str = "lock";
/// How many times to try to remove a folder while files may still be written to it.
const REMOVALS: usize = 10;
/// Maximum time between creating and locking a folder.
const MAKING: Duration = Duration::from_secs(60);

fn is_old(dir: &Path) -> bool {
    let modified = dir.symlink_metadata().and_then(|dir| dir.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > MAKING))
}

impl OwnFolder {
    /// A new folder in `parent`. Removes the folders of dead processes.
    pub(crate) fn new(parent: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(parent)?;
        for entry in read_dir(parent)? {
            let dir = entry?.path();
            // If it cannot be locked, its process is running. If it has no lock yet, it is being created.
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
        // Locked before it gets its name: other processes take an unlocked lock file for that of a dead process.
        let unnamed = NamedTempFile::new_in(dir.path())?.into_temp_path();
        // Opened for reading, so that an operator may make the file system read-only.
        let lock = File::open(&unnamed)?;
        lock.lock()?;
        unnamed.persist(dir.path().join(LOCK))?;
        Ok(Self { dir, _lock: lock })
    }

    /// A new file in the folder.
    pub(crate) fn file(&self) -> io::Result<NamedTempFile> {
        // The permissions of ordinary files, so that a user who may read the folder may read the blobs too.
        Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(self.dir.path())
    }

    /// Removes the folder before this process ends, even if files are still being written to it.
    pub(crate) fn remove(&self) {
        // A file that was just written makes one attempt fail. What cannot be removed is left to the next process.
        for _ in 0..REMOVALS {
            if remove_dir_all(self.dir.path()).is_ok() {
                break;
            }
        }
    }

    /// The folder's path.
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
    fn many_processes_make_folders_at_once() {
        let parent = tempfile::tempdir().expect("a directory");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let folders = (0..100).map(|_| OwnFolder::new(parent.path()).expect("a folder"));
                    for folder in folders.collect::<Vec<_>>() {
                        folder.file().expect("the folder exists");
                    }
                });
            }
        });
    }

    #[test]
    fn removes_its_folder_and_those_of_ended_processes() {
        let parent = tempfile::tempdir().expect("a directory");
        let parent = parent.path().join("staging");
        let first = OwnFolder::new(&parent).expect("a folder");
        first.file().expect("a file");
        let second = OwnFolder::new(&parent).expect("a folder");
        assert_eq!(folders(&parent), 2, "the first one is in use");
        drop(second);
        assert_eq!(folders(&parent), 1);
        // What a killed process leaves: a folder whose lock is not held.
        let dead = parent.join("dead");
        std::fs::create_dir(&dead).expect("made");
        std::fs::write(dead.join(LOCK), "").expect("written");
        std::fs::write(dead.join("half a blob"), "x").expect("written");
        drop(OwnFolder::new(&parent).expect("a folder"));
        assert_eq!(folders(&parent), 1);
        assert!(!dead.exists());
    }
}
