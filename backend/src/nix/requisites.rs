//! Reads Nix's database: whether store paths are valid, and which paths they need at run time.

use super::{Bounds, GcRoot, Memory, Nix, ProcessError, process::INTERRUPTED};
use firn_shared::{
    StorePath,
    nix::{
        closure::PathInfo,
        dump_db::{self, ParseDumpError},
        store_path::ParseStorePathError,
    },
};
use std::collections::HashSet;
use std::time::Duration;

/// Reading the database takes milliseconds. The timeout is for a lock that is never released.
const LIMIT: Bounds = Bounds { time: Duration::from_secs(60), memory: Memory::Unbounded, gives_way: false };

/// Why the database could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RequisitesError {
    /// Nix gave no answer, for example because a path is not valid.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A line is not a store path.
    #[error(transparent)]
    StorePath(#[from] ParseStorePathError),
    /// The path infos do not parse.
    #[error(transparent)]
    Dump(#[from] ParseDumpError),
}

impl RequisitesError {
    /// The message for clients; `None` if there is nothing that they may know.
    pub fn explain(&self) -> Option<String> {
        matches!(self, Self::Process(ProcessError::Ended { .. })).then(|| INTERRUPTED.into())
    }
}

impl Nix {
    /// The path infos of these paths and of everything that they refer to, directly or not.
    ///
    /// # Errors
    /// If a path is not in the store, or Nix cannot be run.
    pub async fn requisites(&self, paths: &[StorePath]) -> Result<Vec<PathInfo>, RequisitesError> {
        let mut arguments = vec!["--query".into(), "--requisites".into()];
        arguments.extend(paths.iter().map(|path| path.as_str().into()));
        let answer = self.run("nix-store", arguments, LIMIT, |_| {}).await?;
        self.path_infos(&store_paths::<Vec<_>>(&answer)?).await
    }

    /// The path infos of these paths.
    ///
    /// # Errors
    /// If a path is not in the store, or Nix cannot be run.
    pub async fn path_infos(&self, paths: &[StorePath]) -> Result<Vec<PathInfo>, RequisitesError> {
        let mut arguments = vec!["--dump-db".into()];
        arguments.extend(paths.iter().map(|path| path.as_str().into()));
        let dump = self.run("nix-store", arguments, LIMIT, |_| {}).await?;
        Ok(dump_db::parse(&String::from_utf8_lossy(&dump))?)
    }

    /// Protects valid store paths, and what they refer to, from Nix's garbage collection.
    ///
    /// # Errors
    /// If a path is not in the store, or Nix cannot be run.
    pub async fn hold(&self, paths: &[StorePath]) -> Result<GcRoot, ProcessError> {
        let (root, link) = self.new_root(paths.iter().map(|_| "out"));
        // `--realise` makes a valid path a root. It must not fetch a path that is not valid.
        let mut arguments = vec!["--realise".into(), "--option".into(), "substitute".into(), "false".into()];
        arguments.extend(["--add-root".into(), link.into(), "--indirect".into()]);
        arguments.extend(paths.iter().map(|path| path.as_str().into()));
        self.run("nix-store", arguments, LIMIT, |_| {}).await?;
        Ok(root)
    }

    /// The paths that are not valid. Files may exist there: an output that Nix rejected.
    ///
    /// # Errors
    /// If Nix cannot be run.
    pub async fn invalid(&self, paths: &[StorePath]) -> Result<HashSet<StorePath>, RequisitesError> {
        let mut arguments = vec!["--check-validity".into(), "--print-invalid".into()];
        arguments.extend(paths.iter().map(|path| path.as_str().into()));
        let answer = self.run("nix-store", arguments, LIMIT, |_| {}).await?;
        Ok(store_paths(&answer)?)
    }
}

/// Store paths, one a line.
fn store_paths<C: FromIterator<StorePath>>(answer: &[u8]) -> Result<C, ParseStorePathError> {
    String::from_utf8_lossy(answer).lines().map(str::parse).collect()
}
