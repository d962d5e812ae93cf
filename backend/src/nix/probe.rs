//! Whether Nix is there and works, for those who ask before anything is built.

use super::{Bounds, Memory, Nix, ProcessError};
use std::time::Duration;

/// Both answer at once; this only bounds a Nix that hangs.
const LIMIT: Bounds = Bounds { time: Duration::from_secs(30), memory: Memory::Unbounded, gives_way: false };

impl Nix {
    /// What Nix says its version is.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn version(&self) -> Result<String, ProcessError> {
        let answer = self.run("nix-store", vec!["--version".into()], LIMIT, |_| {}).await?;
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    }

    /// Whether it evaluates a sum right.
    ///
    /// # Errors
    /// When it cannot be run, or fails.
    pub async fn evaluates(&self) -> Result<bool, ProcessError> {
        let arguments = ["--eval", "--expr", "1 + 1"].map(Into::into).into();
        let answer = self.run("nix-instantiate", arguments, LIMIT, |_| {}).await?;
        Ok(answer.trim_ascii() == b"2")
    }
}
