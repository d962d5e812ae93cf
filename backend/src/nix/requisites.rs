//! What Nix's database knows of store paths: whether they are valid, and what they need at run time.

use super::{Bounds, GcRoot, Memory, Nix, ProcessError};
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

/// Reading the database takes milliseconds; this only bounds a lock that somebody never gives back.
const LIMIT: Bounds = Bounds { time: Duration::from_secs(60), memory: Memory::Unbounded, gives_way: false };

/// Why the database could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RequisitesError {
    /// Nix gave no answer, for example because a path is not valid.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A line that should be a store path is none.
    #[error(transparent)]
    StorePath(#[from] ParseStorePathError),
    /// The records do not parse.
    #[error(transparent)]
    Dump(#[from] ParseDumpError),
}

impl Nix {
    /// The records of these paths and of all that they refer to, directly or not.
    ///
    /// # Errors
    /// When a path is not in the store, or Nix cannot be run.
    pub async fn requisites(&self, paths: &[StorePath]) -> Result<Vec<PathInfo>, RequisitesError> {
        let mut arguments = vec!["--query".into(), "--requisites".into()];
        arguments.extend(paths.iter().map(|path| path.as_str().into()));
        let answer = self.run("nix-store", arguments, LIMIT, |_| {}).await?;
        self.path_infos(&store_paths::<Vec<_>>(&answer)?).await
    }

    /// The records of these paths.
    ///
    /// # Errors
    /// When a path is not in the store, or Nix cannot be run.
    pub async fn path_infos(&self, paths: &[StorePath]) -> Result<Vec<PathInfo>, RequisitesError> {
        let mut arguments = vec!["--dump-db".into()];
        arguments.extend(paths.iter().map(|path| path.as_str().into()));
        let dump = self.run("nix-store", arguments, LIMIT, |_| {}).await?;
        Ok(dump_db::parse(&String::from_utf8_lossy(&dump))?)
    }

    /// Keeps store paths that are valid in the store, with what they refer to.
    ///
    /// # Errors
    /// When a path is not in the store, or Nix cannot be run.
    pub async fn hold(&self, paths: &[StorePath]) -> Result<GcRoot, ProcessError> {
        let (root, link) = self.new_root(paths.iter().map(|_| "out"));
        // It makes a path that is valid a root, and must not fetch one that is not.
        let mut arguments = vec!["--realise".into(), "--option".into(), "substitute".into(), "false".into()];
        arguments.extend(["--add-root".into(), link.into(), "--indirect".into()]);
        arguments.extend(paths.iter().map(|path| path.as_str().into()));
        self.run("nix-store", arguments, LIMIT, |_| {}).await?;
        Ok(root)
    }

    /// Those of these paths that are not valid. Something may lie there nevertheless: what Nix has rejected.
    ///
    /// # Errors
    /// When Nix cannot be run.
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
