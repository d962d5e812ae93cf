//! The path of a file in an image.

use crate::StorePath;
use std::cmp::Ordering;
use std::fmt;

/// Why some bytes are not a path inside an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseImagePathError {
    /// The path does not begin with `/`.
    #[error("a path inside an image begins with `/`")]
    Relative,
    /// A component is empty, `.` or `..`, so the path is not canonical. The root is refused for the same reason; every
    /// image has it anyway.
    #[error("a path inside an image has no empty, `.` or `..` component")]
    Component,
    /// The path contains a NUL byte, which would end the name early in a tar and in system calls.
    #[error("a path inside an image has no NUL byte")]
    Nul,
}

/// An absolute path inside an image, other than the root.
///
/// It is canonical: no empty, `.` or `..` component, no trailing slash, no NUL. Any other bytes may occur, as on Linux.
/// Paths are ordered by component, so that in a sorted list the contents of a directory directly follow it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ImagePath(Box<[u8]>); // without the leading slash

impl ImagePath {
    /// Parses an absolute path such as `/nix/store/…/bin/git`.
    pub fn parse(path: impl AsRef<[u8]>) -> Result<Self, ParseImagePathError> {
        let relative = path.as_ref().strip_prefix(b"/").ok_or(ParseImagePathError::Relative)?;
        for component in relative.split(|byte| *byte == b'/') {
            check_component(component)?;
        }
        Ok(Self(relative.into()))
    }

    /// The path of `name` in this directory.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self, ParseImagePathError> {
        let name = name.as_ref();
        if name.contains(&b'/') {
            return Err(ParseImagePathError::Component);
        }
        check_component(name)?;
        Ok(Self([&self.0, b"/".as_slice(), name].concat().into()))
    }

    /// The parent directory. `None` if that is the root, which is not an [`ImagePath`].
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(Self(self.0[..slash].into()))
    }

    /// The directories above the path, outermost first, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        let slashes = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.map(|(slash, _)| Self(self.0[..slash].into()))
    }

    /// The path without the leading slash: `nix/store/…`.
    pub fn relative(&self) -> &[u8] {
        &self.0
    }

    fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }
}

fn check_component(component: &[u8]) -> Result<(), ParseImagePathError> {
    if matches!(component, b"" | b"." | b"..") {
        Err(ParseImagePathError::Component)
    } else if component.contains(&0) {
        Err(ParseImagePathError::Nul)
    } else {
        Ok(())
    }
}

impl From<&StorePath> for ImagePath {
    fn from(path: &StorePath) -> Self {
        Self::parse(path.as_str()).expect("a store path is absolute and canonical")
    }
}

impl Ord for ImagePath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for ImagePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImagePath(/{})", self.0.escape_ascii())
    }
}
