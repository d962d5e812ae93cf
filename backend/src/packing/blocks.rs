//! Cuts the tar of a layer into blocks of equal size. Each block says where its bytes come from.

use super::PackingError;
use super::content_stream::ContentStream;
use super::file_content::FileContent;
use super::source_file::SourceFile;
use super::walk::Found;
use bytes::Bytes;
use firn_shared::archive::{END, ImagePath, Kind, Permissions, encode_header, padding};
use std::sync::Arc;

/// Contents in memory of at most this many bytes are copied.
const COPIED: usize = 2 << 10;

/// Consecutive bytes of a block.
#[derive(Debug)]
pub(super) enum Piece {
    /// These bytes: headers and padding.
    Bytes(Vec<u8>),
    /// These bytes of a file.
    Shared(Bytes),
    /// Part of a file that the worker reads.
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
            Self::Shared(bytes) => bytes.len(),
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
    /// The content to write after them.
    content: Option<Rest>,
    /// How many zeros come after the content.
    padding: usize,
    ended: bool,
}

/// The rest of a file's content. It has at least one byte.
enum Rest {
    Bytes(Bytes),
    /// From this offset on.
    File(Arc<SourceFile>, u64),
    Stream(Box<ContentStream>),
}

impl Rest {
    fn new(content: FileContent) -> Option<Self> {
        (content.size() > 0).then_some(match content {
            FileContent::Bytes(bytes) => Self::Bytes(bytes),
            FileContent::File(file) => Self::File(file, 0),
            FileContent::Stream(stream) => Self::Stream(stream),
        })
    }

    /// The next piece, of at most `room` bytes, and what is left after it.
    fn split(self, room: usize) -> Result<(Piece, Option<Self>), PackingError> {
        Ok(match self {
            Self::Bytes(mut bytes) => {
                let now = bytes.split_to(bytes.len().min(room));
                (Piece::Shared(now), (!bytes.is_empty()).then_some(Self::Bytes(bytes)))
            }
            Self::File(file, offset) => {
                let left = file.size - offset;
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(room);
                let end = offset + length as u64;
                let rest = (end < file.size).then(|| Self::File(Arc::clone(&file), end));
                (Piece::File { file, offset, length }, rest)
            }
            Self::Stream(mut stream) => {
                let now = stream.read(room)?;
                (Piece::Shared(now), (stream.left() > 0).then_some(Self::Stream(stream)))
            }
        })
    }
}

impl<I: Iterator<Item = Result<(ImagePath, Found), PackingError>>> Blocks<I> {
    pub(super) fn new(entries: I, block_size: usize) -> Self {
        Self {
            entries,
            block_size,
            literal: Vec::new(),
            literal_used: 0,
            content: None,
            padding: 0,
            ended: false,
        }
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
            } else if let Some(content) = self.content.take() {
                let (piece, rest) = content.split(room)?;
                plan.length += piece.length();
                plan.pieces.push(piece);
                self.content = rest;
                if self.content.is_none() {
                    self.literal.clear();
                    self.literal.resize(self.padding, 0);
                    self.literal_used = 0;
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
                self.padding = padding(content.size());
                match content {
                    // Copying is cheaper than one more piece.
                    FileContent::Bytes(bytes) if bytes.len() <= COPIED => {
                        literal.extend_from_slice(&bytes);
                        literal.resize(literal.len() + self.padding, 0);
                    }
                    content => self.content = Rest::new(content),
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
