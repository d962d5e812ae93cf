//! Parses the output of `nix-store --dump-db`. The format is the same since Nix 2.3.
//!
//! The output is a sequence of records. The lines of a record are: path, base-16 SHA-256 of the NAR, NAR size, deriver
//! (may be empty), number of references, and the references.

use crate::{
    StorePath,
    nix::{closure::PathInfo, store_path::ParseStorePathError},
    oci::digest::NarHash,
};

/// Why a dump cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDumpError {
    /// The text ends inside a record.
    #[error("the dump ends inside the record of {0}")]
    Truncated(StorePath),
    /// A line is not a store path, although it should be.
    #[error(transparent)]
    StorePath(#[from] ParseStorePathError),
    /// A hash is not a base-16 SHA-256.
    #[error("the record of {0} has no base-16 sha256")]
    Hash(StorePath),
    /// A size or count is not a number.
    #[error("the record of {0} has a bad number")]
    Number(StorePath),
}

/// The records of a dump, in order.
///
/// # Errors
/// If a record is malformed or incomplete.
pub fn parse(text: &str) -> Result<Vec<PathInfo>, ParseDumpError> {
    let mut lines = text.lines();
    let mut records = Vec::new();
    while let Some(line) = lines.next() {
        let path: StorePath = line.parse()?;
        let mut field = || lines.next().ok_or_else(|| ParseDumpError::Truncated(path.clone()));
        let hash = field()?;
        let nar_hash: NarHash =
            format!("sha256:{hash}").parse().map_err(|_| ParseDumpError::Hash(path.clone()))?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| ParseDumpError::Number(path.clone()));
        let nar_size = number(field()?)?;
        let _deriver = field()?;
        let count = number(field()?)?;
        let references = (0..count).map(|_| Ok(field()?.parse()?)).collect::<Result<_, ParseDumpError>>()?;
        records.push(PathInfo { path, nar_hash, nar_size, references });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBC: &str = "/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-libc";
    const GIT: &str = "/nix/store/qnikzm2hw7glz47yfby8byy4p2hvnckn-git";

    fn dump() -> String {
        let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        format!("{LIBC}\n{hash}\n120\n\n0\n{GIT}\n{hash}\n4096\n{GIT}.drv\n2\n{LIBC}\n{GIT}\n")
    }

    #[test]
    fn reads_records() {
        let records = parse(&dump()).expect("a dump");
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].nar_size, 120);
        assert_eq!(records[1].path.as_str(), GIT);
        assert_eq!(records[1].references.len(), 2);
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn refuses_every_truncation() {
        let dump = dump();
        let lines: Vec<_> = dump.lines().collect();
        for cut in (1..lines.len()).filter(|cut| *cut != 5) {
            assert!(parse(&lines[..cut].join("\n")).is_err(), "cut after line {cut}");
        }
    }

    #[test]
    fn refuses_garbage() {
        assert!(parse("error: cannot open\n").is_err());
        assert!(parse(&dump().replace("4096", "4k")).is_err());
        assert!(parse(&dump().replace("e3b0", "zzzz")).is_err());
        assert!(parse(&dump().replace("\n2\n", "\n99999999999999\n")).is_err());
    }
}
