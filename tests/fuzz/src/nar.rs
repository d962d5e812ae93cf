//! NARs: what was read of one, written again, is the same NAR, however its bytes arrive.

use super::nar_reader::{Chunks, Entry, Item, NarReader, ReadNarError};
use bytes::Bytes;
use std::convert::Infallible;

/// Bytes that arrive in chunks of this length.
struct InChunks(Bytes, usize);

impl Chunks for InChunks {
    type Error = Infallible;

    fn next(&mut self) -> Result<Option<Bytes>, Infallible> {
        let chunk = self.0.split_to(self.1.min(self.0.len()));
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}

fn strings(nar: &mut Vec<u8>, texts: &[&[u8]]) {
    for text in texts {
        nar.extend_from_slice(&(text.len() as u64).to_le_bytes());
        nar.extend_from_slice(text);
        nar.resize(nar.len().next_multiple_of(8), 0);
    }
}

/// The NAR of what a reader reads, in which the content of files is read in pieces; else why it is none.
fn written_again(bytes: &Bytes, chunk: usize) -> Result<Vec<u8>, &'static str> {
    try_written_again(bytes, chunk).map_err(|error| match error {
        ReadNarError::Format(reason) => reason,
        ReadNarError::Chunks(never) => match never {},
    })
}

fn try_written_again(bytes: &Bytes, chunk: usize) -> Result<Vec<u8>, ReadNarError<Infallible>> {
    let mut reader = NarReader::new(InChunks(bytes.clone(), chunk));
    let mut nar = Vec::new();
    strings(&mut nar, &[b"nix-archive-1"]);
    let mut depth = 0;
    while let Some(item) = reader.step()? {
        match item {
            Item::Leave => {
                depth -= 1;
                strings(&mut nar, &[b")"]);
            }
            Item::Enter(name, entry) => {
                if depth > 0 {
                    strings(&mut nar, &[b"entry", b"(", b"name", &name, b"node"]);
                }
                strings(&mut nar, &[b"(", b"type"]);
                match entry {
                    Entry::Directory => {
                        depth += 1;
                        assert!(depth <= 4096, "the depth is limited");
                        strings(&mut nar, &[b"directory"]);
                        continue;
                    }
                    Entry::Symlink(target) => strings(&mut nar, &[b"symlink", b"target", &target, b")"]),
                    Entry::File { is_executable, size } => {
                        strings(&mut nar, &[b"regular"]);
                        if is_executable {
                            strings(&mut nar, &[b"executable", b""]);
                        }
                        let content = match usize::try_from(size) {
                            // More than there is, is an error and not an allocation.
                            Ok(size) if size <= bytes.len() && size % 2 == 0 => reader.whole_content(size)?,
                            _ => in_pieces(&mut reader)?,
                        };
                        assert_eq!(content.len() as u64, size);
                        strings(&mut nar, &[b"contents", &content, b")"]);
                    }
                }
            }
        }
        // Whatever it was, it was an entry of a directory, unless it was the root.
        if depth > 0 {
            strings(&mut nar, &[b")"]);
        }
    }
    assert!(reader.into_chunks().0.is_empty());
    Ok(nar)
}

fn in_pieces(reader: &mut NarReader<InChunks>) -> Result<Bytes, ReadNarError<Infallible>> {
    let mut content = Vec::new();
    loop {
        let piece = reader.content(100)?;
        assert!(piece.len() <= 100);
        if piece.is_empty() {
            return Ok(content.into());
        }
        content.extend_from_slice(&piece);
    }
}

pub(super) fn target(bytes: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(bytes);
    let whole = written_again(&bytes, usize::MAX);
    assert_eq!(whole, written_again(&bytes, 7), "chunks change nothing");
    if let Ok(nar) = &whole {
        assert!(*nar == bytes, "the NAR that was written is another one");
    }
    whole.is_ok()
}
