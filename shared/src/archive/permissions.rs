//! The permissions and owner of a file in an image.

/// Permission bits and owner of an entry.
///
/// No entry is set-uid or set-gid. Files from the Nix store are read-only and belong to root, as Nix normalises them.
/// User and group have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permissions {
    bits: u32,
    owner: u32,
}

impl Permissions {
    /// A directory inside a store path.
    pub const STORE_DIRECTORY: Self = Self::new(0o555, 0);
    /// A regular file inside a store path.
    pub const STORE_FILE: Self = Self::new(0o444, 0);
    /// An executable file inside a store path.
    pub const STORE_EXECUTABLE: Self = Self::new(0o555, 0);
    /// A directory that root may change. Parent directories such as `/nix` and `/nix/store` also have these
    /// permissions, in every layer, so that no layer changes a directory of another.
    pub const DIRECTORY: Self = Self::new(0o755, 0);
    /// A file that root may change, such as `/etc/passwd`.
    pub const FILE: Self = Self::new(0o644, 0);
    /// A symbolic link. Its bits have no meaning; Linux always shows these.
    pub const SYMLINK: Self = Self::new(0o777, 0);

    /// Permissions with these bits of `st_mode` below the file type, and this number for user and group. Set-uid and
    /// set-gid bits are dropped; the sticky bit (`/tmp`) is kept.
    pub const fn new(bits: u32, owner: u32) -> Self {
        Self { bits: bits & 0o1777, owner }
    }

    /// The bits of `st_mode` below the file type.
    pub const fn bits(self) -> u32 {
        self.bits
    }

    /// The number of the user and of the group.
    pub const fn owner(self) -> u32 {
        self.owner
    }
}
