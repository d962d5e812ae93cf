//! Reading what a block needs.

use super::PackError;
use super::blocks::{Piece, Plan};
use super::walk::SourceFile;
use rustix::fs::{Mode, OFlags, SeekFrom};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Writes the block's bytes into `block`, which is as long as the plan.
pub(super) fn fill(plan: &Plan, block: &mut [u8]) -> Result<(), PackError> {
    let mut rest = block;
    for piece in &plan.pieces {
        match piece {
            Piece::Literal(literal) => {
                let (now, later) = rest.split_at_mut(literal.len());
                now.copy_from_slice(literal);
                rest = later;
            }
            Piece::File { file, offset, length } => {
                let (now, later) = rest.split_at_mut(*length);
                fill_from_file(file, *offset, now)?;
                rest = later;
            }
        }
    }
    Ok(())
}

fn fill_from_file(file: &SourceFile, offset: u64, bytes: &mut [u8]) -> Result<(), PackError> {
    let failed = |source| PackError::Read { path: file.path.clone(), source };
    let changed = || PackError::Changed { path: file.path.clone() };
    // What was a file a moment ago may be a symlink or a pipe now: neither follow nor wait.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let handle = rustix::fs::open(&file.path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let handle = File::from(handle);
    let read = if file.sparse {
        read_around_holes(&handle, offset, bytes)
    } else {
        handle.read_exact_at(bytes, offset)
    };
    match read {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(changed()),
        Err(error) => return Err(failed(error)),
    }
    // After reading: what changed before or during it shows now.
    let now = handle.metadata().map_err(failed)?;
    if file.is_unchanged(&now) { Ok(()) } else { Err(changed()) }
}

/// Like `read_exact_at`, without making the kernel copy the zeros of holes.
fn read_around_holes(handle: &File, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
    bytes.fill(0);
    let end = offset + bytes.len() as u64;
    let mut at = offset;
    while at < end {
        let data = match rustix::fs::seek(handle, SeekFrom::Data(at)) {
            Ok(data) => data.min(end),
            Err(rustix::io::Errno::NXIO) => end, // a hole up to the end of the file
            Err(errno) => return Err(errno.into()),
        };
        if data == end {
            break;
        }
        at = rustix::fs::seek(handle, SeekFrom::Hole(data))?.min(end);
        handle.read_exact_at(&mut bytes[(data - offset) as usize..(at - offset) as usize], data)?;
    }
    Ok(())
}
