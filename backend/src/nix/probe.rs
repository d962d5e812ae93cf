//! Checks whether Nix is installed and works, before anything is built.

use super::{Bounds, Memory, Nix, ProcessError};
use std::time::Duration;

/// Both commands answer at once. The timeout is for a Nix that hangs.
const LIMIT: Bounds = Bounds { time: Duration::from_secs(30), memory: Memory::Unbounded, gives_way: false };

impl Nix {
    /// The version as Nix prints it.
    ///
    /// # Errors
    /// If Nix cannot be run.
    pub async fn version(&self) -> Result<String, ProcessError> {
        let answer = self.run("nix-store", vec!["--version".into()], LIMIT, |_| {}).await?;
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    }

    /// Whether Nix evaluates a sum correctly.
    ///
    /// # Errors
    /// If Nix cannot be run, or fails.
    pub async fn evaluates(&self) -> Result<bool, ProcessError> {
        let mut arguments: Vec<_> = ["--eval", "--expr", "1 + 1"].map(Into::into).into();
        arguments.extend(self.store_for_evaluations());
        let answer = self.run("nix-instantiate", arguments, LIMIT, |_| {}).await?;
        Ok(answer.trim_ascii() == b"2")
    }
}
