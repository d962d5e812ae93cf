//! Who may do what with a file in an image.

/// Permission bits and owner of an entry.
///
/// Nothing is ever set-uid or set-gid, and what comes from the Nix store is read-only and root's, as Nix
/// itself normalises it. User and group have the same number.
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
    /// A directory that the image's root user may change; also every directory that leads to an entry
    /// (`/nix`, `/nix/store`), in each layer alike, so that no layer changes what another has laid down.
    pub const DIRECTORY: Self = Self::new(0o755, 0);
    /// A file that the image's root user may change: `/etc/passwd`.
    pub const FILE: Self = Self::new(0o644, 0);
    /// A symbolic link; its bits mean nothing, and Linux always shows these.
    pub const SYMLINK: Self = Self::new(0o777, 0);

    /// The bits of `st_mode` below the file type, and the number of the user and group. Set-uid and set-gid
    /// bits are dropped, the sticky bit (`/tmp`) stays.
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
