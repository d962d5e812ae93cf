//! Reads the first output of a derivation from its file, and nothing else of it.
//!
//! The format is ATerm (Nix manual, "Derivations", "ATerm format"): `Derive([("out","PATH","METHOD","HASH")…`.

use rustix::fs::OFlags;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How many bytes of the file are read. They contain the first output.
const BEGINNING: u64 = 4096;

/// The first output of a derivation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Derivation {
    path: String,
    hash: String,
}

impl Derivation {
    /// Reads a derivation. None if the file cannot be read or is not a derivation.
    pub(super) fn read(drv: &Path) -> Option<Self> {
        // Package code can put any path into Nix's log, also that of a FIFO. Opening a FIFO would wait for a writer.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(drv).ok()?;
        let mut text = Vec::new();
        file.take(BEGINNING).read_to_end(&mut text).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// The first derivation whose path is quoted in a message of Nix.
    pub(super) fn named_in(message: &str) -> Option<Self> {
        message
            .split(['\'', '"'])
            .find(|part| part.starts_with('/') && part.ends_with(".drv"))
            .and_then(|path| Self::read(Path::new(path)))
    }

    /// Whether this is a fixed-output or impure derivation. Nix checks the output's hash, or nothing.
    pub(super) fn may_use_the_network(&self) -> bool {
        !self.hash.is_empty()
    }

    /// The path of the output, if it is known. It need not exist.
    pub(super) fn output(&self) -> Option<&Path> {
        (!self.path.is_empty()).then(|| Path::new(&self.path))
    }

    fn parse(text: &str) -> Option<Self> {
        let (_, output) = text.split_once("[(\"")?;
        let (output, _) = output.split_once("\")")?;
        let fields: Vec<&str> = output.split("\",\"").collect();
        let [_name, path, _method, hash] = fields[..] else { return None };
        Some(Self { path: path.to_owned(), hash: hash.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_who_may_use_the_network() {
        let check = |text: &str, expect: Option<bool>| {
            let derivation = Derivation::parse(text);
            assert_eq!(derivation.map(|derivation| derivation.may_use_the_network()), expect, "{text}");
        };
        check(r#"Derive([("out","/nix/store/x-a","","")],[],["#, Some(false));
        check(r#"Derive([("dev","/nix/store/x-a-dev","",""),("out","/nix/store/x-a","","")],["#, Some(false));
        check(r#"Derive([("out","/nix/store/x-a","sha256","00ff")],["#, Some(true));
        check(r#"Derive([("out","/nix/store/x-a","r:sha256","00ff")],["#, Some(true));
        // A content-addressed derivation, whose hash is not known yet; and an impure one.
        check(r#"Derive([("out","","r:sha256","")],["#, Some(false));
        check(r#"DrvWithVersion("xp-dyn-drv",[("out","","r:sha256","impure")],["#, Some(true));
        check("Derive([", None);
        check("", None);
    }

    #[test]
    fn finds_derivations_in_messages() {
        let dir = tempfile::tempdir().expect("a directory");
        let drv = dir.path().join("x.drv");
        std::fs::write(&drv, r#"Derive([("out","/nix/store/x-a","sha256","00ff")],[]"#).expect("written");
        let named = |message: String| Derivation::named_in(&message).is_some();
        assert!(named(format!("error: builder for '{}' failed with exit code 1", drv.display())));
        assert!(named(format!("error: Cannot build '{}'.\n Reason: builder failed.", drv.display())));
        assert!(!named("error: builder for '/nix/store/nothing.drv' failed".into()));
        assert!(!named("error: timed out after 2 seconds".into()));
    }

    #[test]
    fn reading_a_fifo_does_not_block() {
        let dir = tempfile::tempdir().expect("a directory");
        let fifo = dir.path().join("x.drv");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
        assert_eq!(Derivation::read(&fifo), None);
    }
}
