//! A git repository of package sets.

use crate::program::Program;
use std::path::{Path, PathBuf};

/// A repository with a working tree.
pub struct Repository {
    place: PathBuf,
}

impl Repository {
    /// A new repository with the branch `main`.
    ///
    /// # Panics
    /// If git is not installed or fails.
    pub fn new(place: &Path) -> Self {
        std::fs::create_dir_all(place).expect("a directory can be made");
        let repository = Self { place: place.to_owned() };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("file://{}", self.place.display())
    }

    /// Commits this as the package set. Returns the commit.
    pub fn commit(&self, expression: &str) -> String {
        crate::package_set::write(&self.place, expression);
        self.git(&["add", "default.nix"]);
        self.git(&["commit", "--quiet", "--message", "A package set"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Any other git command.
    pub fn git(&self, arguments: &[&str]) -> String {
        Program::new("git")
            .in_dir(&self.place)
            .args(["-c", "user.name=Firn", "-c", "user.email=firn@example.org"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("TZ", "UTC")
            .run()
            .succeeded()
    }
}
