//! Realising: making store paths exist, by building or substituting, and keeping them while they are needed.

use super::{Bounds, Memory, Nix, ProcessError};
use crate::audience::{Abandoned, Audience};
use firn_shared::{nix_log::Spoken, package::Package};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Keeps store paths from being garbage-collected while it exists.
#[derive(Debug)]
pub struct GcRoot {
    links: Vec<PathBuf>,
}

impl Drop for GcRoot {
    fn drop(&mut self) {
        for link in &self.links {
            // A link that stays behind costs disk space; the next process removes it.
            let _ = std::fs::remove_file(link);
        }
    }
}

/// Why store paths could not be realised.
#[derive(Debug, thiserror::Error)]
pub enum RealiseError {
    /// Packages that would fail alike at the next attempt. Others have been realised all the same.
    #[error("{blame}")]
    Hopeless {
        /// What is to blame.
        blame: Blame,
        /// What Nix said about it.
        errors: Vec<String>,
    },
    /// A builder failed for want of space or network.
    #[error("a builder failed for want of space or network")]
    Passing(#[source] ProcessError),
    /// Nobody waits any more for what had not begun.
    #[error(transparent)]
    Abandoned(#[from] Abandoned),
    /// Anything else: Nix could not be run, its store is full or locked, its time ran out.
    #[error(transparent)]
    Process(ProcessError),
}

/// What is to blame when a package cannot be realised for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Blame {
    /// Its builder failed.
    #[error("a builder failed")]
    Builder,
    /// Its builder took too long, and Nix noticed before we did.
    #[error("a builder took too long")]
    Time,
    /// Its builder ended well, and made something else than it promised.
    #[error("an output was rejected")]
    Output,
    /// Nix knows no machine of its system.
    #[error("there is no machine that could build it")]
    Machine,
}

/// The exit codes by which `nix-store --realise` tells that builders are to blame (Nix manual, nix-store,
/// "Special exit codes"): 100 and more, with a bit each for time-out, hash mismatch and nondeterminism.
///
/// A builder that Nix would let try again is not among them, but ends with 1 like everything else: one that may use
/// the network, because the hash of its output is fixed, and one that failed while the disk was full (tried with 2.8
/// and 2.26).
const BUILDER_FAILED: std::ops::RangeInclusive<i32> = 100..=111;

/// The one of them that says that a builder took too long, and no more than that.
const TIMED_OUT: i32 = 101;

/// What Nix says, with exit code 1, of packages that are hopeless nevertheless: the words from 2.8 to 2.26.
const HOPELESS: [(&str, Blame); 3] = [
    ("failed to produce output path", Blame::Output),
    ("is not allowed to refer to the following paths", Blame::Output),
    ("is required to build", Blame::Machine),
];

/// What builders say of a want of space that Nix does not see, since it looks at free bytes, once they have ended.
const WANT_OF_SPACE: [&str; 3] = ["No space left on device", "Disk quota exceeded", "Read-only file system"];

/// How many of Nix's errors are kept, and how much of each, in characters.
const MAX_ERRORS: usize = 10;
const MAX_ERROR: usize = 1000;

static NEXT_ROOT: AtomicU64 = AtomicU64::new(0);

impl Nix {
    /// Realises the selected outputs of packages; they stay in the store while the root exists.
    ///
    /// One package that fails does not stop the others. Clients take turns. Each line of Nix's structured log goes to `line`.
    ///
    /// # Errors
    /// When a package fails to build, Nix cannot be run or takes too long.
    pub async fn realise(
        &self,
        packages: &[&Package],
        audience: &Arc<Audience>,
        mut line: impl FnMut(&str) + Send,
    ) -> Result<GcRoot, RealiseError> {
        let _turn = self.realisations.take(audience).await?;
        let link = self.gc_roots.path().join(NEXT_ROOT.fetch_add(1, Ordering::Relaxed).to_string());
        let timeout = self.build_timeout.as_secs();
        let mut arguments = vec!["--realise".into()];
        for package in packages {
            for output in &package.outputs {
                arguments.push(format!("{}!{}", package.drv, output.name).into());
            }
        }
        // Nix numbers the links of further paths: link, link-2, …
        let links = (0..arguments.len()).map(|i| match i {
            0 => link.clone(),
            i => PathBuf::from(format!("{}-{}", link.display(), i + 1)),
        });
        let root = GcRoot { links: links.collect() };
        arguments.extend(["--add-root".into(), link.clone().into(), "--indirect".into()]);
        arguments.extend(["--keep-going".into(), "--timeout".into(), timeout.to_string().into()]);
        arguments.extend(["--log-format".into(), "internal-json".into()]);
        let bounds = Bounds { time: self.build_timeout, memory: Memory::Family(self.build_memory_bytes) };
        let mut said = Said::default();
        let hear = |text: &str| {
            said.hear(text);
            line(text);
        };
        match self.run("nix-store", arguments, bounds, hear).await {
            Ok(_) => Ok(root),
            Err(error @ ProcessError::Failed { status, .. }) => Err(said.judge(status, error)),
            Err(other) => Err(RealiseError::Process(other)),
        }
    }
}

/// What was said during a realisation that its exit code does not tell.
#[derive(Debug, Default)]
struct Said {
    /// Nix's own errors, the first of them.
    errors: Vec<String>,
    hopeless: Option<Blame>,
    builder_failed: bool,
    want_of_space: bool,
}

impl Said {
    fn hear(&mut self, line: &str) {
        match Spoken::of(line) {
            Some(Spoken::Error(text)) => {
                let blame = HOPELESS.iter().find(|(words, _)| text.contains(words));
                self.hopeless = self.hopeless.or(blame.map(|(_, blame)| *blame));
                self.builder_failed |= text.contains("builder for ");
                if self.errors.len() < MAX_ERRORS {
                    self.errors.push(text.chars().take(MAX_ERROR).collect());
                }
            }
            Some(Spoken::Builder(text)) => {
                self.want_of_space |= WANT_OF_SPACE.iter().any(|words| text.contains(words));
            }
            None => {}
        }
    }

    fn judge(self, status: i32, source: ProcessError) -> RealiseError {
        match self.hopeless {
            _ if self.want_of_space => RealiseError::Passing(source),
            _ if status == TIMED_OUT && !self.builder_failed => {
                RealiseError::Hopeless { blame: Blame::Time, errors: self.errors }
            }
            _ if BUILDER_FAILED.contains(&status) => {
                RealiseError::Hopeless { blame: Blame::Builder, errors: self.errors }
            }
            Some(blame) => RealiseError::Hopeless { blame, errors: self.errors },
            None if self.builder_failed => RealiseError::Passing(source),
            None => RealiseError::Process(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Nix 2.8 says and ends with, when it notices before we do that a builder takes too long.
    #[test]
    fn a_builder_that_takes_too_long_does_not_count_as_failing() {
        let judged = |said: &[&str]| {
            let mut all = Said::default();
            for text in said {
                all.hear(&format!(
                    "@nix {}",
                    serde_json::json!({ "action": "msg", "level": 0, "msg": text })
                ));
            }
            let failed = ProcessError::Failed { program: "nix-store", status: TIMED_OUT, stderr: Vec::new() };
            match all.judge(TIMED_OUT, failed) {
                RealiseError::Hopeless { blame, .. } => blame,
                other => panic!("{other:?}"),
            }
        };
        let slow = "error: building of '/nix/store/x.drv!out' from .drv file timed out after 2 seconds";
        let failing = "error: builder for '/nix/store/y.drv' failed with exit code 1";
        assert_eq!(judged(&[slow]), Blame::Time);
        // Of two packages one took too long; which of them is not told apart.
        assert_eq!(judged(&[slow, failing]), Blame::Builder);
    }
}
