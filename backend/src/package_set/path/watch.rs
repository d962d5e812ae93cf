//! Whether anything has happened in directories since they were read, as Linux's inotify(7) tells it.
//!
//! The kernel queues what happens before the call that does it returns. An empty queue therefore proves that nothing has
//! happened, without a thread that would hear of it a moment later. That is why this is not the `notify` crate.
//!
//! A watch is set on each directory before it is read, so that what happens meanwhile is queued too. A file that has
//! several names is watched by itself, because what happens under another name is told to the directory of that name.
//!
//! inotify is silent about what other machines do on network file systems, about writing through memory maps, and about
//! what is mounted over a directory. Where it cannot be relied on at all, the reason is in [`Watch::unfit`].

use rustix::{
    fd::OwnedFd,
    fs::{
        inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
        statfs,
    },
    io::{Errno, ioctl_fionread},
};
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

/// What counts as a change. `EXCL_UNLINK` leaves out files that have been removed and are still written.
const CHANGES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::DONT_FOLLOW);

/// File systems of this machine alone, by their `f_type` in statfs(2). Any other may be written from elsewhere.
const LOCAL: [u32; 15] = [
    0x0000_EF53, // ext2, ext3, ext4
    0x9123_683E, // btrfs
    0x5846_5342, // XFS
    0x2FC1_2FC1, // ZFS
    0xCA45_1A4E, // bcachefs
    0xF2F5_2010, // F2FS
    0x3153_464A, // JFS
    0x5265_4973, // ReiserFS
    0x0102_1994, // tmpfs
    0x8584_58F6, // ramfs
    0x794C_7630, // overlayfs
    0x7371_7368, // SquashFS
    0xE0F5_E1E2, // EROFS
    0x0000_9660, // ISO 9660
    0x7366_746E, // NTFS
];

/// Longer than the longest event, and enough for hundreds of short ones.
const BUFFER: usize = 16 << 10;

/// Why silence proves nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    /// The kernel gives no more watches to this user.
    #[error("the limit of watches is reached: raise fs.inotify.max_user_watches")]
    Watches,
    /// The kernel gives no more queues to this user.
    #[error("the limit of inotify instances is reached: raise fs.inotify.max_user_instances")]
    Instances,
    /// It may be written from elsewhere.
    #[error("{} is on a file system that may be written by other machines", .0.display())]
    Shared(PathBuf),
    /// Something else.
    #[error("inotify fails: {0}")]
    Other(io::Error),
}

/// Watches of the directories and files that were named since [`Watch::begin`].
#[derive(Debug)]
pub(super) struct Watch {
    queue: OwnedFd,
    /// Those that the kernel has, and those of them that are still wanted.
    set: HashSet<i32>,
    wanted: HashSet<i32>,
    /// Whether the file systems of these devices are local.
    devices: HashMap<u64, bool>,
    unfit: Option<Unfit>,
}

impl Watch {
    pub(super) fn new() -> Result<Self, Unfit> {
        let queue =
            inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|error| match error {
                Errno::MFILE => Unfit::Instances,
                error => Unfit::Other(error.into()),
            })?;
        let (set, wanted, devices) = Default::default();
        Ok(Self { queue, set, wanted, devices, unfit: None })
    }

    /// Forgets what has happened so far. From here on everything that counts is watched anew.
    pub(super) fn begin(&mut self) {
        self.is_quiet();
        self.wanted.clear();
        self.devices.clear();
    }

    /// Watches a directory: call this before it is read. `device` is where its metadata says it is.
    pub(super) fn directory(&mut self, path: &Path, device: u64) {
        self.add(path, device, CHANGES | WatchFlags::ONLYDIR);
    }

    /// Watches a file by itself: call this before its metadata are read for good.
    pub(super) fn file(&mut self, path: &Path, device: u64) {
        self.add(path, device, CHANGES);
    }

    fn add(&mut self, path: &Path, device: u64, flags: WatchFlags) {
        if self.unfit.is_some() {
            return;
        }
        let is_local = self.devices.entry(device).or_insert_with(|| {
            #[expect(clippy::cast_possible_truncation, reason = "the kernel's numbers have 32 bits")]
            statfs(path).is_ok_and(|found| LOCAL.contains(&(found.f_type as u32)))
        });
        if !*is_local {
            self.unfit = Some(Unfit::Shared(path.to_owned()));
            return;
        }
        match inotify::add_watch(&self.queue, path, flags) {
            Ok(watch) => {
                self.set.insert(watch);
                self.wanted.insert(watch);
            }
            // It is not that any more. Whoever did it changed a directory that is watched.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(Errno::NOSPC) => self.unfit = Some(Unfit::Watches),
            Err(error) => self.unfit = Some(Unfit::Other(error.into())),
        }
    }

    /// Ends what [`Self::begin`] began: what was not named since is watched no longer.
    ///
    /// # Errors
    /// When not everything that was named is watched.
    pub(super) fn end(&mut self) -> Result<(), Unfit> {
        if let Some(unfit) = self.unfit.take() {
            return Err(unfit);
        }
        for watch in self.set.difference(&self.wanted) {
            // The kernel has removed those of what is gone.
            let _ = inotify::remove_watch(&self.queue, *watch);
        }
        self.set.clone_from(&self.wanted);
        Ok(())
    }

    /// Whether nothing is in the queue. Something may be in it that does not count.
    pub(super) fn is_empty(&self) -> bool {
        ioctl_fionread(&self.queue) == Ok(0)
    }

    /// Whether nothing has happened since the last call.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut events = Reader::new(&self.queue, &mut buffer);
        let mut is_quiet = true;
        loop {
            match events.next() {
                // `IGNORED` says that a watch is gone. Where that matters, another event says why.
                Ok(event) => {
                    let counts = event.events() != ReadFlags::IGNORED
                        && event.file_name().map(CStr::to_bytes) != Some(super::LEFT_OUT);
                    is_quiet &= !counts;
                }
                Err(Errno::AGAIN) => return is_quiet,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}
