//! A digest over everything in a directory: names, kinds and contents.
//!
//! Contents are read once and remembered with size, times and inode, so that asking again costs one `lstat` a
//! file. `.git` is left out: it changes without the package set changing.
//!
//! **Symbolic links that lead out** bring in what they lead to, because Nix follows them. What is in the Nix store never
//! changes, so that its name is enough. A link to what cannot be read, or is too large, is only a name too.

use super::{LEFT_OUT, watch::Watch};
use firn_shared::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a file must have been left alone before its times tell whether it changes. Clocks of file systems stand
/// still between ticks: of two changes in one tick, the second may leave no trace.
const SETTLED: Duration = Duration::from_secs(2);

/// Where no files lie that a package set is made of: some of these never end.
const NO_FILES: [&str; 3] = ["/proc", "/sys", "/dev"];

/// How much a link that leads out may bring in: entries and bytes.
const MAX_OUTSIDE: Room = Room { entries: 100_000, bytes: 1 << 30 };

/// What tells that a file has not changed.
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

/// Digests of files, with the stamps that the files had.
pub(super) type Files = HashMap<PathBuf, (Stamp, Digest)>;

/// What a directory or file holds.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) digest: Digest,
    /// What need not be read again.
    pub(super) files: Files,
    /// Paths that lead to what was read, and whereto. They go through directories that are not watched.
    pub(super) ways: Vec<Way>,
    /// What links lead to that is too large.
    pub(super) too_large: Vec<PathBuf>,
}

/// A path, with what it leads to.
#[derive(Debug)]
pub(super) struct Way {
    path: PathBuf,
    end: Option<End>,
    /// Whether the end is watched.
    is_watched: bool,
}

/// The real path, device and inode.
type End = (PathBuf, u64, u64);

impl Way {
    fn new(path: PathBuf) -> Self {
        let end = end(&path).ok();
        Self { path, end, is_watched: false }
    }

    /// Whether it still leads to the same. If the end is watched, its device and inode suffice: before the inode belongs to
    /// something else, the kernel tells that the end is gone. Then this takes one system call, else one for each name in
    /// the path.
    pub(super) fn is_same(&self) -> bool {
        match &self.end {
            Some((_, device, inode)) if self.is_watched => {
                self.path.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == (*device, *inode))
            }
            _ => end(&self.path).ok() == self.end,
        }
    }
}

fn end(path: &Path) -> io::Result<End> {
    let real = path.canonicalize()?;
    let meta = real.symlink_metadata()?;
    Ok((real, meta.dev(), meta.ino()))
}

fn stamp(meta: &Metadata) -> Stamp {
    (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
}

impl Content {
    /// Reads a directory or file. What is known of files need not be read. What is read is watched, from before it is
    /// read.
    pub(super) fn read(path: &Path, known: &Files, watch: Option<&mut Watch>) -> io::Result<Self> {
        Self::read_at(SystemTime::now(), path, known, watch)
    }

    /// The same at this time.
    pub(super) fn read_at(
        now: SystemTime,
        path: &Path,
        known: &Files,
        watch: Option<&mut Watch>,
    ) -> io::Result<Self> {
        // The path itself may be a symlink to where the set is today.
        let way = Way { is_watched: true, ..Way::new(path.to_owned()) };
        let root = match &way.end {
            Some((real, ..)) => real.clone(),
            None => path.canonicalize()?,
        };
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut walk = Walk {
            known,
            watch,
            settled: since_1970.saturating_sub(SETTLED).as_secs().cast_signed(),
            places: vec![root.clone()],
            room: None,
            content: Self {
                digest: Digest::from_hasher(Sha256::new()),
                files: Files::new(),
                ways: vec![way],
                too_large: Vec::new(),
            },
        };
        let mut hasher = Sha256::new();
        walk.add(&root, 0, &mut hasher)?;
        walk.content.digest = Digest::from_hasher(hasher);
        Ok(walk.content)
    }
}

/// What is left of what a link may bring in.
#[derive(Clone, Copy)]
struct Room {
    entries: u64,
    bytes: u64,
}

struct Walk<'a> {
    known: &'a Files,
    watch: Option<&'a mut Watch>,
    /// Files that changed before this are told by their stamps; in seconds since 1970.
    settled: i64,
    /// The real paths of what is read: the package set, and what its links lead out to.
    places: Vec<PathBuf>,
    /// In what a link leads out to.
    room: Option<Room>,
    content: Content,
}

impl Walk<'_> {
    /// Adds what is at a path in this place.
    fn add(&mut self, path: &Path, place: usize, hasher: &mut Sha256) -> io::Result<()> {
        let mut meta = path.symlink_metadata()?;
        self.take_room(&meta)?;
        if meta.is_dir() {
            if let Some(watch) = &mut self.watch {
                watch.directory(path, meta.dev());
            }
            let mut names: Vec<_> =
                std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
            names.retain(|name| name.as_bytes() != LEFT_OUT);
            names.sort_unstable();
            field(hasher, b"directory");
            field(hasher, &(names.len() as u64).to_le_bytes());
            for name in names {
                field(hasher, name.as_bytes());
                self.add(&path.join(&name), place, hasher)?;
            }
        } else if meta.is_symlink() {
            self.add_link(path, place, hasher)?;
        } else if meta.is_file() {
            // The directory that it was found in tells nothing of what is done by its other names. Without a directory,
            // it is the place itself.
            let is_alone = meta.nlink() == 1 && *path != self.places[place];
            if let Some(watch) = &mut self.watch
                && !is_alone
            {
                watch.file(path, meta.dev());
                meta = path.symlink_metadata()?;
            }
            let digest = self.file(path, &meta)?;
            field(hasher, b"file");
            field(hasher, &[u8::from(meta.mode() & 0o100 != 0)]);
            field(hasher, digest.as_bytes());
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, meta: &Metadata) -> io::Result<Digest> {
        let stamp = stamp(meta);
        let digest = match self.known.get(path) {
            Some((known, digest)) if *known == stamp => *digest,
            _ => {
                let mut content = HashWriter(Sha256::new());
                io::copy(&mut std::fs::File::open(path)?, &mut content)?;
                Digest::from_hasher(content.0)
            }
        };
        if meta.ctime() < self.settled {
            self.content.files.insert(path.to_owned(), (stamp, digest));
        }
        Ok(digest)
    }

    fn add_link(&mut self, path: &Path, place: usize, hasher: &mut Sha256) -> io::Result<()> {
        let target = std::fs::read_link(path)?;
        let outside = match self.leads_out(path, &target, place) {
            true => self.outside(path)?,
            false => None,
        };
        field(hasher, if outside.is_some() { b"symlink out" } else { b"symlink" });
        field(hasher, target.as_os_str().as_bytes());
        if let Some(digest) = outside {
            field(hasher, digest.as_bytes());
        }
        Ok(())
    }

    /// Whether a link may lead out of its place, by its words. Links that it goes through are looked at themselves.
    fn leads_out(&self, path: &Path, target: &Path, place: usize) -> bool {
        let inside = path.parent().and_then(|dir| dir.strip_prefix(&self.places[place]).ok());
        let Some(inside) = inside else { return true };
        let mut depth = inside.components().count();
        let mut has_gone_down = false;
        for component in target.components() {
            match component {
                Component::CurDir => {}
                Component::Normal(_) => {
                    depth += 1;
                    has_gone_down = true;
                }
                // What is above of where a name leads to depends on what has the name.
                Component::ParentDir if depth > 0 && !has_gone_down => depth -= 1,
                _ => return true,
            }
        }
        false
    }

    /// The digest of what a link leads to, if that counts and is not read anyway.
    fn outside(&mut self, link: &Path) -> io::Result<Option<Digest>> {
        let way = Way::new(link.to_owned());
        let real = way.end.as_ref().map(|(real, ..)| real.clone());
        let number = self.content.ways.len();
        self.content.ways.push(way);
        let Some(real) = real else { return Ok(None) };
        let is_in = |place: &Path| real.starts_with(place);
        let store = std::env::var_os("NIX_STORE_DIR").map_or_else(|| "/nix/store".into(), PathBuf::from);
        if is_in(&store)
            || NO_FILES.iter().any(|place| is_in(place.as_ref()))
            || self.places.iter().any(|place| is_in(place))
        {
            return Ok(None);
        }
        let place = self.places.len();
        self.places.push(real.clone());
        // What a link in it leads to counts as a part of it.
        let is_part = self.room.is_some();
        self.room.get_or_insert(MAX_OUTSIDE);
        let mut hasher = Sha256::new();
        let added = self.add(&real, place, &mut hasher);
        if !is_part {
            self.room = None;
        }
        match added {
            Ok(()) => {
                self.content.ways[number].is_watched = true;
                Ok(Some(Digest::from_hasher(hasher)))
            }
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                if is_part {
                    return Err(error);
                }
                self.content.too_large.push(real);
                Ok(None)
            }
            Err(_) => Ok(None),
        }
    }

    fn take_room(&mut self, meta: &Metadata) -> io::Result<()> {
        let Some(room) = &mut self.room else { return Ok(()) };
        let bytes = if meta.is_file() { meta.size() } else { 0 };
        let left = room.entries.checked_sub(1).zip(room.bytes.checked_sub(bytes));
        let (entries, bytes) = left.ok_or(io::ErrorKind::FileTooLarge)?;
        *room = Room { entries, bytes };
        Ok(())
    }
}

fn field(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Lets `io::copy` hash: sha2 itself no longer implements `Write`.
struct HashWriter(Sha256);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
