//! The permissions that a file in an image can have.

/// Permission bits of an entry.
///
/// Only the constants below exist: nothing in an image is set-uid, and what comes from the Nix store is
/// read-only, as Nix itself normalises it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permissions(u32);

impl Permissions {
    /// A directory inside a store path.
    pub const STORE_DIRECTORY: Self = Self(0o555);
    /// A regular file inside a store path.
    pub const STORE_FILE: Self = Self(0o444);
    /// An executable file inside a store path.
    pub const STORE_EXECUTABLE: Self = Self(0o555);
    /// A directory that the image's root user may change; also every directory that leads to an entry
    /// (`/nix`, `/nix/store`), in each layer alike, so that no layer changes what another has laid down.
    pub const DIRECTORY: Self = Self(0o755);
    /// A directory in which everybody may create files and nobody may remove another's: `/tmp`.
    pub const SHARED_DIRECTORY: Self = Self(0o1777);
    /// A file that the image's root user may change: `/etc/passwd`.
    pub const FILE: Self = Self(0o644);
    /// A symbolic link; its bits mean nothing, and Linux always shows these.
    pub const SYMLINK: Self = Self(0o777);

    /// The bits as in `st_mode`, without the file type.
    pub const fn bits(self) -> u32 {
        self.0
    }
}
