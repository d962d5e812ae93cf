//! Files that commands write.

use crossbeam_channel::{Sender, bounded};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use tempfile::NamedTempFile;

/// A file that is being written. [Completing](OutputFile::complete) it gives it its name. A file that had the name
/// before stays until then. If it is dropped earlier, nothing is left.
///
/// A device or a pipe is written to, not replaced. If the path is a symbolic link, its target is replaced.
#[derive(Debug)]
pub(crate) struct OutputFile(Destination);

#[derive(Debug)]
enum Destination {
    Special(File),
    Aside { file: NamedTempFile, path: PathBuf, early: EarlySync },
}

impl OutputFile {
    /// Starts a file. Every user may read it, as far as the umask allows.
    ///
    /// # Errors
    /// If the file, or a temporary file beside it, cannot be written.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let path = match path.metadata() {
            Ok(metadata) if metadata.is_file() => path.canonicalize()?,
            Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(_) => return Ok(Self(Destination::Special(OpenOptions::new().write(true).open(path)?))),
            Err(_) => path.to_owned(),
        };
        let permissions = Permissions::from_mode(0o666);
        let file = tempfile::Builder::new().permissions(permissions).tempfile_in(directory(&path))?;
        Ok(Self(Destination::Aside { file, path, early: EarlySync::default() }))
    }

    /// The file, for writing it in other ways than by [`Write`].
    pub(crate) fn file(&self) -> &File {
        match &self.0 {
            Destination::Special(file) => file,
            Destination::Aside { file, .. } => file.as_file(),
        }
    }

    /// Gives the file its name, once its contents are on the disk.
    ///
    /// # Errors
    /// If the contents cannot be written to the disk.
    pub(crate) fn complete(self) -> io::Result<()> {
        match self.0 {
            Destination::Special(mut file) => file.flush(),
            Destination::Aside { file, path, .. } => {
                file.as_file().sync_all()?;
                file.persist(&path).map_err(|error| error.error)?;
                File::open(directory(&path))?.sync_all()
            }
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Destination::Special(file) => file.write(bytes),
            Destination::Aside { file, early, .. } => {
                let written = file.write(bytes)?;
                early.wrote(file, written);
                Ok(written)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

/// The directory of a file.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file's contents to the disk while more of it is produced, so that the final sync has little left to do.
#[derive(Debug, Default)]
struct EarlySync {
    unsynced: usize,
    /// Wakes the thread that syncs. Small files never need it.
    sync: Option<Sender<()>>,
}

impl EarlySync {
    /// How many bytes are worth a sync.
    const BATCH: usize = 8 << 20;

    fn wrote(&mut self, file: &NamedTempFile, bytes: usize) {
        self.unsynced += bytes;
        if self.unsynced < Self::BATCH {
            return;
        }
        // If the thread cannot start, the final sync does all the work and reports errors.
        if self.sync.is_none() {
            self.sync = Self::begin(file).ok();
        }
        // If a sync is running and the next is already requested, try again after the next write.
        if self.sync.as_ref().is_some_and(|sync| sync.try_send(()).is_ok()) {
            self.unsynced = 0;
        }
    }

    fn begin(file: &NamedTempFile) -> io::Result<Sender<()>> {
        let (sync, asked) = bounded(1);
        // Opened separately: the kernel reports a write error once to each open file, and the final sync must see it.
        let disk = file.reopen()?;
        // Ends when the channel is closed.
        thread::Builder::new()
            .name("sync".into())
            .spawn(move || while asked.recv().is_ok() && disk.sync_data().is_ok() {})?;
        Ok(sync)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn write(path: &Path, text: &str) -> io::Result<()> {
        let mut file = OutputFile::create(path)?;
        file.write_all(text.as_bytes())?;
        file.complete()
    }

    fn entries(dir: &Path) -> usize {
        fs::read_dir(dir).expect("a directory").count()
    }

    #[test]
    fn an_interrupted_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        for text in ["first", "second"] {
            write(&path, text).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
        }
        let mut file = OutputFile::create(&path).expect("a file beside it");
        file.write_all(b"half").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "second");
        drop(file);
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "second");
        assert_eq!(entries(dir.path()), 1, "nothing is left");
    }

    #[test]
    fn large_files_are_whole_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let text = "large".repeat(EarlySync::BATCH / 2);
        write(&path, &text).expect("written");
        assert!(fs::read_to_string(&path).expect("it is there") == text);
    }

    #[test]
    fn links_stay_and_lead_to_what_was_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        write(&file, "first").expect("written");
        symlink("file", &link).expect("a link");
        write(&link, "second").expect("written");
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&file).expect("it is there"), "second");
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
        let reader = thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).expect("read")
        });
        write(&pipe, "text").expect("written");
        assert_eq!(reader.join().expect("it ends"), "text");
        write(Path::new("/dev/null"), "text").expect("written");
        assert!(!fs::metadata("/dev/null").expect("it is still there").is_file());
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        assert!(write(&socket, "text").is_err());
        assert!(!fs::metadata(&socket).expect("it is still there").is_file());
        let error = write(dir.path(), "text").expect_err("a directory");
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        assert_eq!(entries(dir.path()), 2);
    }
}
