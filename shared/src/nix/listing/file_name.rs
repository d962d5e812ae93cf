//! The names of files in store paths.

use super::byte_text;
use serde_with::{DeserializeFromStr, SerializeDisplay};
use std::{fmt, str::FromStr};

/// The name of a file. It consists of bytes, as on Linux.
///
/// It is serialised as text, because JSON has no bytes. `%` and everything that is not printable ASCII is
/// percent-encoded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct FileName(Box<[u8]>);

/// The bytes or the text are not the name of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a file name: {0:?}")]
pub struct FileNameError(String);

impl FileName {
    /// The name that consists of these bytes.
    ///
    /// # Errors
    /// If the name is empty, `.` or `..`, or contains a slash or NUL.
    pub fn new(bytes: &[u8]) -> Result<Self, FileNameError> {
        if matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|b| matches!(b, b'/' | 0)) {
            return Err(FileNameError(String::from_utf8_lossy(bytes).into_owned()));
        }
        Ok(Self(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&byte_text::encode(&self.0))
    }
}

impl FromStr for FileName {
    type Err = FileNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = byte_text::decode(text).ok_or_else(|| FileNameError(text.to_owned()))?;
        Self::new(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_round_trip(bytes in proptest::collection::vec(any::<u8>(), 1..20)) {
            if let Ok(name) = FileName::new(&bytes) {
                prop_assert_eq!(name.to_string().parse(), Ok(name));
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,20}|(%[0-9a-g]{0,2}){0,4}") {
            let _ = text.parse::<FileName>();
        }
    }

    #[test]
    fn refuses_what_leads_elsewhere() {
        for bytes in ["", ".", "..", "a/b", "a\0"] {
            assert!(FileName::new(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
        for text in ["%2f", "%2e%2e", "%00", "%zz", "%1", "%"] {
            assert!(text.parse::<FileName>().is_err(), "{text}");
        }
    }
}
