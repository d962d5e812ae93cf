//! The journal of a crawl: the path infos found so far, one JSON object a line. An interrupted crawl resumes from it.

use firn_shared::nix::closure::PathInfo;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

/// A file of path infos, or no file.
#[derive(Debug)]
pub struct Journal(Option<BufWriter<File>>);

impl Journal {
    /// A journal that keeps nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Opens a journal and reads its path infos. An incomplete last line is dropped.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<PathInfo>)> {
        let mut records = Vec::new();
        let mut whole = 0;
        if path.exists() {
            let mut reader = BufReader::new(File::open(path)?);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 {
                match serde_json::from_slice(&line) {
                    Ok(record) if line.ends_with(b"\n") => records.push(record),
                    _ => break,
                }
                whole += line.len() as u64;
                line.clear();
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        file.set_len(whole)?;
        Ok((Self(Some(BufWriter::new(file))), records))
    }

    /// Adds a path info.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn add(&mut self, record: &PathInfo) -> io::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        serde_json::to_writer(&mut *file, record)?;
        file.write_all(b"\n")
    }

    /// Writes buffered path infos to the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_shared::oci::digest::NarHash;

    #[test]
    fn survives_being_cut_off_anywhere() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("journal");
        let record = |letter: char| PathInfo {
            path: format!("/nix/store/{}-{letter}", letter.to_string().repeat(32)).parse().expect("a path"),
            nar_hash: NarHash::of(b""),
            nar_size: 1,
            references: vec![],
        };
        let (mut journal, records) = Journal::open(&path).expect("opened");
        assert!(records.is_empty());
        for letter in ['a', 'b'] {
            journal.add(&record(letter)).expect("written");
        }
        drop(journal);
        let whole = std::fs::read(&path).expect("the journal");
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("cut");
            let (mut journal, records) = Journal::open(&path).expect("opened");
            let expect = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(records.len(), expect, "cut at {cut}");
            journal.add(&record('c')).expect("written");
            drop(journal);
            assert_eq!(Journal::open(&path).expect("opened").1.len(), expect + 1, "cut at {cut}");
        }
    }
}
