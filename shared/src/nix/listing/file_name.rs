//! The names of files in store paths.

use serde_with::{DeserializeFromStr, SerializeDisplay};
use std::{
    fmt::{self, Write},
    str::FromStr,
};

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
        self.0.iter().try_for_each(|byte| match byte {
            b'%' | 0..=0x1f | 0x7f.. => write!(f, "%{byte:02x}"),
            _ => f.write_char(char::from(*byte)),
        })
    }
}

impl FromStr for FileName {
    type Err = FileNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || FileNameError(text.to_owned());
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            rest = tail;
            if *first == b'%' {
                let (digits, tail) = rest.split_at_checked(2).ok_or_else(error)?;
                bytes.extend(hex::decode(digits).map_err(|_| error())?);
                rest = tail;
            } else {
                bytes.push(*first);
            }
        }
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
