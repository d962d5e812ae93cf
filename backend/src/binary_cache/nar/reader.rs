//! Reads the NAR format from bytes that arrive in chunks (Nix manual, "Nix Archive (NAR) format").
//!
//! `nix-nar` has a parser, too. It trusts lengths (a NAR of forty bytes makes it allocate exabytes), wants names to be
//! UTF-8, and lends its entries from the decoder, so that no tree can own both.
//!
//! What names may be, and their order, is checked by packing.

use bytes::{Buf, Bytes, BytesMut};

/// Where the bytes of a NAR come from.
pub(super) trait Chunks {
    /// Why there are no more bytes.
    type Error;

    /// The next bytes; `None` at the end.
    fn next(&mut self) -> Result<Option<Bytes>, Self::Error>;
}

/// Why a NAR cannot be read.
#[derive(Debug)]
pub(super) enum ReadNarError<E> {
    /// The bytes are not a NAR.
    Format(&'static str),
    /// There are no bytes.
    Chunks(E),
}

impl<E> From<E> for ReadNarError<E> {
    fn from(error: E) -> Self {
        Self::Chunks(error)
    }
}

/// One step through a NAR.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// To what has this name in the directory. The root has no name.
    Enter(Bytes, Entry),
    /// Out of the directory.
    Leave,
}

/// What is at a place in a NAR.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Directory,
    Symlink(Bytes),
    /// Its bytes can be read until the next step.
    File {
        is_executable: bool,
        size: u64,
    },
}

/// The length of the longest path, and of the longest target of a symlink, on Linux. A NAR with a longer one can be
/// unpacked nowhere. The limit bounds the depth of the tree, too.
const PATH_MAX: usize = 4096;
/// The largest file, in bytes. Sums of sizes that are claimed stay far from the end of the numbers.
const FILE_MAX: u64 = 1 << 60;
/// The longest of the words of the format is shorter.
const LONGEST_WORD: usize = 16;

/// Reads a NAR step by step.
pub(super) struct NarReader<C> {
    chunks: C,
    /// Bytes that have arrived.
    chunk: Bytes,
    state: State,
    /// The length of the name of each directory that it is inside of, outermost first.
    inside: Vec<usize>,
}

#[derive(Clone, Copy)]
enum State {
    Start,
    /// In a file that has this many bytes left, and so much padding after them.
    File {
        left: u64,
        padding: usize,
    },
    /// After an entry of a directory, or at its beginning.
    Directory,
    End,
}

type Read<T, C> = Result<T, ReadNarError<<C as Chunks>::Error>>;

impl<C: Chunks> NarReader<C> {
    pub(super) fn new(chunks: C) -> Self {
        Self { chunks, chunk: Bytes::new(), state: State::Start, inside: Vec::new() }
    }

    /// The next step; `None` at the end, after which there must be no byte.
    pub(super) fn step(&mut self) -> Read<Option<Item>, C> {
        if let State::File { padding, .. } = self.state {
            while !self.content(usize::MAX)?.is_empty() {}
            self.zeros(padding)?;
            self.close()?;
        }
        match self.state {
            State::Start => {
                self.expect(b"nix-archive-1")?;
                self.enter(Bytes::new()).map(Some)
            }
            State::Directory => match &*self.word(LONGEST_WORD)? {
                b"entry" => {
                    self.expect(b"(")?;
                    self.expect(b"name")?;
                    let name = self.word(PATH_MAX)?;
                    self.expect(b"node")?;
                    self.enter(name).map(Some)
                }
                b")" => {
                    self.inside.pop();
                    self.close_entry()?;
                    Ok(Some(Item::Leave))
                }
                _ => Err(ReadNarError::Format("an entry or the end of a directory is expected")),
            },
            State::End => match self.chunk.is_empty() && self.chunks.next()?.is_none() {
                true => Ok(None),
                false => Err(ReadNarError::Format("it goes on after its end")),
            },
            State::File { .. } => unreachable!("it was left above"),
        }
    }

    /// The next bytes of the file, at most `most`; none at its end.
    pub(super) fn content(&mut self, most: usize) -> Read<Bytes, C> {
        let State::File { left, padding } = self.state else { return Ok(Bytes::new()) };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        if most == 0 {
            return Ok(Bytes::new());
        }
        self.fill()?;
        let bytes = self.chunk.split_to(most.min(self.chunk.len()));
        self.state = State::File { left: left - bytes.len() as u64, padding };
        Ok(bytes)
    }

    /// All bytes of the file, which has `size`.
    pub(super) fn whole_content(&mut self, size: usize) -> Read<Bytes, C> {
        let first = self.content(size)?;
        if first.len() == size {
            return Ok(first);
        }
        let mut all = BytesMut::with_capacity(size);
        all.extend_from_slice(&first);
        while all.len() < size {
            all.extend_from_slice(&self.content(size - all.len())?);
        }
        Ok(all.freeze())
    }

    /// What is left of the bytes, whatever they are.
    pub(super) fn into_chunks(self) -> C {
        self.chunks
    }

    fn enter(&mut self, name: Bytes) -> Read<Item, C> {
        if self.inside.iter().sum::<usize>() + name.len() > PATH_MAX {
            return Err(ReadNarError::Format("a path is too long"));
        }
        self.expect(b"(")?;
        self.expect(b"type")?;
        let entry = match &*self.word(LONGEST_WORD)? {
            b"directory" => {
                self.inside.push(name.len() + 1);
                self.state = State::Directory;
                Entry::Directory
            }
            b"symlink" => {
                self.expect(b"target")?;
                let target = self.word(PATH_MAX)?;
                if target.is_empty() || target.contains(&0) {
                    return Err(ReadNarError::Format("a symlink has no target"));
                }
                self.close()?;
                Entry::Symlink(target)
            }
            b"regular" => {
                let mut word = self.word(LONGEST_WORD)?;
                let is_executable = &*word == b"executable";
                if is_executable {
                    self.expect(b"")?;
                    word = self.word(LONGEST_WORD)?;
                }
                if &*word != b"contents" {
                    return Err(ReadNarError::Format("a file has no contents"));
                }
                let size = self.number()?;
                if size > FILE_MAX {
                    return Err(ReadNarError::Format("a file is too large"));
                }
                self.state = State::File { left: size, padding: padding(size) };
                Entry::File { is_executable, size }
            }
            _ => return Err(ReadNarError::Format("neither a file, a directory nor a symlink")),
        };
        Ok(Item::Enter(name, entry))
    }

    /// Out of a file or symlink.
    fn close(&mut self) -> Read<(), C> {
        self.expect(b")")?;
        self.close_entry()
    }

    /// Out of an entry of a directory.
    fn close_entry(&mut self) -> Read<(), C> {
        if self.inside.is_empty() {
            self.state = State::End;
            return Ok(());
        }
        self.state = State::Directory;
        self.expect(b")")
    }

    fn expect(&mut self, word: &[u8]) -> Read<(), C> {
        match *self.word(LONGEST_WORD)? == *word {
            true => Ok(()),
            false => Err(ReadNarError::Format("another word is expected")),
        }
    }

    /// A string of at most `longest` bytes.
    fn word(&mut self, longest: usize) -> Read<Bytes, C> {
        let length = self.number()?;
        let length = usize::try_from(length).ok().filter(|length| *length <= longest);
        let length = length.ok_or(ReadNarError::Format("a string is too long"))?;
        let word = self.take(length)?;
        self.zeros(padding(length as u64))?;
        Ok(word)
    }

    fn number(&mut self) -> Read<u64, C> {
        Ok(self.take(8)?.get_u64_le())
    }

    fn zeros(&mut self, count: usize) -> Read<(), C> {
        match self.take(count)?.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(ReadNarError::Format("the padding is not zero")),
        }
    }

    /// So many bytes, which are few.
    fn take(&mut self, count: usize) -> Read<Bytes, C> {
        if self.chunk.len() >= count {
            return Ok(self.chunk.split_to(count));
        }
        let mut all = BytesMut::with_capacity(count);
        while all.len() < count {
            self.fill()?;
            all.extend_from_slice(&self.chunk.split_to(self.chunk.len().min(count - all.len())));
        }
        Ok(all.freeze())
    }

    /// Waits for at least one byte.
    fn fill(&mut self) -> Read<(), C> {
        while self.chunk.is_empty() {
            self.chunk = self.chunks.next()?.ok_or(ReadNarError::Format("it ends too early"))?;
        }
        Ok(())
    }
}

/// How many zeros follow so many bytes.
const fn padding(length: u64) -> usize {
    (length.wrapping_neg() % 8) as usize
}
