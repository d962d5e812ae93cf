//! Files that commands write.

use crossbeam_channel::{Sender, bounded};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use tempfile::NamedTempFile;

/// A file that is being written: it is under its name when it is [complete](OutputFile::complete), and what was
/// there before stays until then. Dropped earlier, it leaves nothing behind.
///
/// A device or a pipe is written to as it is, not replaced. Of a link, what it leads to is replaced.
#[derive(Debug)]
pub(crate) struct OutputFile(Destination);

#[derive(Debug)]
enum Destination {
    Special(File),
    Aside { file: NamedTempFile, path: PathBuf, early: EarlySync },
}

impl OutputFile {
    /// Begins a file. Everybody may read it, as far as the umask allows.
    ///
    /// # Errors
    /// When it, or another file beside it, cannot be written.
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

    /// The file, for those who write in another way than by [`Write`].
    pub(crate) fn file(&self) -> &File {
        match &self.0 {
            Destination::Special(file) => file,
            Destination::Aside { file, .. } => file.as_file(),
        }
    }

    /// Gives the file its name, once everything is on the disk.
    ///
    /// # Errors
    /// When the disk does not take it.
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

/// Where a file is.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Brings a file to the disk while the rest of it is still being made, so that little is left to wait for.
#[derive(Debug, Default)]
struct EarlySync {
    unsynced: usize,
    /// To the thread that syncs, which small files never need.
    sync: Option<Sender<()>>,
}

impl EarlySync {
    /// Bytes that are worth a sync.
    const BATCH: usize = 8 << 20;

    fn wrote(&mut self, file: &NamedTempFile, bytes: usize) {
        self.unsynced += bytes;
        if self.unsynced < Self::BATCH {
            return;
        }
        // Where it cannot begin, the sync at the end does it all, and tells what is wrong.
        if self.sync.is_none() {
            self.sync = Self::begin(file).ok();
        }
        // While one sync is under way and another is asked for, this waits for the next batch.
        if self.sync.as_ref().is_some_and(|sync| sync.try_send(()).is_ok()) {
            self.unsynced = 0;
        }
    }

    fn begin(file: &NamedTempFile) -> io::Result<Sender<()>> {
        let (sync, asked) = bounded(1);
        // Opened by itself: the kernel reports a failure to each opener once, and the last sync must see it.
        let disk = file.reopen()?;
        // Ends with the channel.
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
    fn is_whole_or_as_before() {
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
