//! The expressions of `nix/`. They are embedded in the binary, so it needs no files or variables to find them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

const FILES: [(&str, &str); 4] = [
    ("flake.nix", include_str!("../../../nix/flake.nix")),
    ("index.nix", include_str!("../../../nix/index.nix")),
    ("load-pkgs.nix", include_str!("../../../nix/load-pkgs.nix")),
    ("resolve.nix", include_str!("../../../nix/resolve.nix")),
];

/// The expressions, as files that Nix can read.
#[derive(Debug)]
pub(super) struct Expressions {
    dir: PathBuf,
}

impl Expressions {
    /// Writes the expressions into a directory. Each file is replaced atomically, because another Firn may be reading
    /// it.
    pub(super) fn install(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir.join("home"))?;
        for (name, text) in FILES {
            if std::fs::read(dir.join(name)).is_ok_and(|there| there == text.as_bytes()) {
                continue;
            }
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(text.as_bytes())?;
            file.persist(dir.join(name))?;
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// An empty home directory for evaluations. nixpkgs reads overlays and configuration from the user's home, and
    /// those are not part of a revision.
    pub(super) fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// All expressions.
    pub(super) fn all(&self) -> impl Iterator<Item = PathBuf> {
        FILES.iter().map(|(name, _)| self.dir.join(name))
    }

    pub(super) fn index(&self) -> PathBuf {
        self.dir.join("index.nix")
    }

    pub(super) fn resolve(&self) -> PathBuf {
        self.dir.join("resolve.nix")
    }
}
