//! Cuts the tar of a layer into blocks of equal size. Each block says where its bytes come from.

use super::PackingError;
use super::file_content::FileContent;
use super::source_file::SourceFile;
use super::walk::Found;
use firn_shared::archive::{END, ImagePath, Kind, Permissions, encode_header, padding};
use std::sync::Arc;

/// Consecutive bytes of a block.
#[derive(Debug)]
pub(super) enum Piece {
    /// These bytes: headers and padding.
    Bytes(Vec<u8>),
    /// Part of a file.
    File {
        file: Arc<SourceFile>,
        /// First byte in the file.
        offset: u64,
        length: usize,
    },
}

impl Piece {
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File { length, .. } => *length,
        }
    }
}

/// One block: its pieces in order.
#[derive(Debug, Default)]
pub(super) struct BlockPlan {
    pub(super) pieces: Vec<Piece>,
    pub(super) length: usize,
}

impl BlockPlan {
    fn add_bytes(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        match self.pieces.last_mut() {
            Some(Piece::Bytes(before)) => before.extend_from_slice(bytes),
            _ => self.pieces.push(Piece::Bytes(bytes.to_vec())),
        }
    }
}

/// Iterates over the blocks of a tar archive of `entries`. Every block except the last has `block_size` bytes.
pub(super) struct Blocks<I> {
    entries: I,
    block_size: usize,
    /// Headers and padding to write next, from `literal_used` on.
    literal: Vec<u8>,
    literal_used: usize,
    /// The file to write after them, from this offset on.
    file: Option<(Arc<SourceFile>, u64)>,
    ended: bool,
}

impl<I: Iterator<Item = Result<(ImagePath, Found), PackingError>>> Blocks<I> {
    pub(super) fn new(entries: I, block_size: usize) -> Self {
        Self { entries, block_size, literal: Vec::new(), literal_used: 0, file: None, ended: false }
    }

    /// The iterator of the entries.
    pub(super) fn entries(&self) -> &I {
        &self.entries
    }

    fn plan(&mut self) -> Result<BlockPlan, PackingError> {
        let mut plan = BlockPlan::default();
        while plan.length < self.block_size {
            let room = self.block_size - plan.length;
            let literal = &self.literal[self.literal_used..];
            if !literal.is_empty() {
                let taken = literal.len().min(room);
                plan.add_bytes(&literal[..taken]);
                self.literal_used += taken;
            } else if let Some((file, offset)) = self.file.take() {
                let left = file.size - offset;
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(room);
                let end = offset + length as u64;
                plan.pieces.push(Piece::File { file: Arc::clone(&file), offset, length });
                plan.length += length;
                if end == file.size {
                    self.literal.clear();
                    self.literal.resize(padding(file.size), 0);
                    self.literal_used = 0;
                } else {
                    self.file = Some((file, end));
                }
            } else if !self.next_entry()? {
                break;
            }
        }
        Ok(plan)
    }

    /// Prepares the next entry. Returns false at the end of the archive.
    fn next_entry(&mut self) -> Result<bool, PackingError> {
        self.literal.clear();
        self.literal_used = 0;
        let literal = &mut self.literal;
        match self.entries.next().transpose()? {
            Some((at, Found::Directory(permissions))) => {
                encode_header(&at, permissions, Kind::Directory, literal);
            }
            Some((at, Found::Symlink(target))) => {
                encode_header(&at, Permissions::SYMLINK, Kind::Symlink { target: &target }, literal);
            }
            Some((at, Found::HardLink(permissions, to))) => {
                encode_header(&at, permissions, Kind::HardLink { to: &to }, literal);
            }
            Some((at, Found::File(permissions, content))) => {
                encode_header(&at, permissions, Kind::File { size: content.size() }, literal);
                match content {
                    FileContent::Bytes(bytes) => {
                        literal.extend_from_slice(&bytes);
                        literal.resize(literal.len() + padding(bytes.len() as u64), 0);
                    }
                    FileContent::File(file) => self.file = (file.size > 0).then_some((file, 0)),
                }
            }
            None if self.ended => return Ok(false),
            None => {
                literal.extend_from_slice(&END);
                self.ended = true;
            }
        }
        Ok(true)
    }
}

impl<I: Iterator<Item = Result<(ImagePath, Found), PackingError>>> Iterator for Blocks<I> {
    type Item = Result<BlockPlan, PackingError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.plan() {
            Ok(plan) if plan.length == 0 => None,
            planned => Some(planned),
        }
    }
}
