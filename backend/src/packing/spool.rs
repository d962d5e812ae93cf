//! Bytes that were read ahead and wait for their turn: in memory, and what is too much for that in a file.

use super::PackingError;
use bytes::Bytes;
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How many bytes of a file wait in memory.
const IN_MEMORY: usize = 1 << 20;
/// How many bytes are read from the file at a time.
const CHUNK: usize = 256 << 10;

/// A queue of bytes. What was added first is read first; nothing is added after the first reading.
#[derive(Default)]
pub(super) struct Spool {
    memory: VecDeque<Bytes>,
    in_memory: usize,
    /// Has no name, so the file system frees it when it is closed.
    file: Option<File>,
    in_file: u64,
    read_from_file: u64,
}

impl Spool {
    /// How many bytes wait.
    pub(super) fn left(&self) -> u64 {
        self.in_memory as u64 + self.in_file - self.read_from_file
    }

    /// Adds bytes. Too many for the memory go to a file in this directory.
    pub(super) fn add(&mut self, bytes: Bytes, directory: &Path) -> Result<(), PackingError> {
        if self.file.is_none() && self.in_memory + bytes.len() <= IN_MEMORY {
            self.in_memory += bytes.len();
            self.memory.push_back(bytes);
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile_in(directory).map_err(PackingError::Spool)?),
        };
        file.write_all_at(&bytes, self.in_file).map_err(PackingError::Spool)?;
        self.in_file += bytes.len() as u64;
        Ok(())
    }

    /// The next bytes, at most `most`; `None` if none wait.
    pub(super) fn read(&mut self, most: usize) -> Result<Option<Bytes>, PackingError> {
        if let Some(mut bytes) = self.memory.pop_front() {
            if bytes.len() > most {
                self.memory.push_front(bytes.split_off(most));
            }
            self.in_memory -= bytes.len();
            return Ok(Some(bytes));
        }
        let Some(file) = &self.file else { return Ok(None) };
        let left = self.in_file - self.read_from_file;
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(most).min(CHUNK);
        if length == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, self.read_from_file).map_err(PackingError::Spool)?;
        self.read_from_file += length as u64;
        Ok(Some(bytes.into()))
    }
}
