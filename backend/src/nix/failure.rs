//! Why a Nix process failed, and whether the next attempt would fail too.
//!
//! Exit codes are not enough. Nix's own programs exit with 100 or more if builds failed for good (Nix manual,
//! nix-store, "Special exit codes"), but clients of a Nix daemon exit with 1 whatever happened. So the structured log
//! decides, by the words of Nix's errors (see [`MEANINGS`], tested with Nix 2.8, 2.26 and 2.34) and by activities
//! that did not end. A failure that is not recognised counts as temporary, unless the exit code says otherwise.

use super::derivation::Derivation;
use firn_shared::{
    StorePath,
    nix::log::{Activity, Spoken},
};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// Why a package can never be realised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Blame {
    /// Its builder failed.
    #[error("a builder failed")]
    Builder,
    /// Its builder took too long.
    #[error("a builder took too long")]
    Time,
    /// Its builder succeeded, but Nix rejected the output.
    #[error("an output was rejected")]
    Output,
    /// A download has another hash than the package set says.
    #[error("a download has another hash than it should have")]
    Hash,
    /// Nix has no machine of its system, or none with the features that it needs.
    #[error("there is no machine that could build it")]
    Machine,
    /// Nix rejects its derivation.
    #[error("Nix rejects a derivation")]
    Derivation,
}

/// A temporary reason why a build failed. It may be gone at the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A download or a binary cache failed.
    #[error("the network or a binary cache failed")]
    Network,
    /// A disk is full or cannot be written to.
    #[error("a disk has no space left")]
    Space,
    /// A builder was killed: by a person, or by the system for lack of memory.
    #[error("a builder was ended from outside")]
    Ended,
}

/// The meaning of a message of Nix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The derivation is at fault: the next attempt would fail too.
    Lasting(Blame),
    /// A temporary problem.
    Passing(Obstacle),
    /// A builder failed. The derivation says what that means: a build that may use the network may succeed later.
    BuilderFailed,
    /// A builder took too long. Again, the derivation says what that means.
    TimedOut,
    /// It failed because something else failed, which Nix reports too.
    Follows,
}

/// Words of Nix's messages, and what they mean. The first entry whose words are in a message counts. A comment names
/// the versions that use the words; without a comment, all do.
const MEANINGS: [(&str, Meaning); 31] = [
    // Binary caches.
    ("some substitutes for the outputs of derivation", Meaning::Passing(Obstacle::Network)),
    ("no substituter that can build it", Meaning::Passing(Obstacle::Network)),
    ("does not exist in binary cache", Meaning::Passing(Obstacle::Network)),
    ("hash mismatch importing path", Meaning::Passing(Obstacle::Network)),
    ("' is incomplete", Meaning::Passing(Obstacle::Network)),
    ("unable to download", Meaning::Passing(Obstacle::Network)),
    // Consequences of other failures.
    ("failed to produce output path", Meaning::Lasting(Blame::Output)),
    (" dependencies of derivation ", Meaning::Follows), // 2.8, 2.26
    ("dependency failed", Meaning::Follows),            // 2.34
    ("dependencies failed", Meaning::Follows),          // 2.34
    // Machines.
    ("is required to build", Meaning::Lasting(Blame::Machine)), // 2.8, 2.26
    ("Reason: platform mismatch", Meaning::Lasting(Blame::Machine)), // 2.34
    ("Reason: missing system features", Meaning::Lasting(Blame::Machine)), // 2.34
    ("nable to start any build", Meaning::Lasting(Blame::Machine)),
    // Builders.
    ("timed out after", Meaning::TimedOut),
    ("builder for ", Meaning::BuilderFailed),           // 2.8, 2.26
    ("Reason: builder failed", Meaning::BuilderFailed), // 2.34
    // Outputs.
    ("hash mismatch in fixed-output derivation", Meaning::Lasting(Blame::Hash)),
    ("cycle detected in build of", Meaning::Lasting(Blame::Output)),
    ("has an unsupported type", Meaning::Lasting(Blame::Output)),
    ("suspicious ownership or permission", Meaning::Lasting(Blame::Output)),
    ("invalid ownership on file", Meaning::Lasting(Blame::Output)),
    ("is not allowed to refer to", Meaning::Lasting(Blame::Output)),
    ("is too large at", Meaning::Lasting(Blame::Output)),
    ("should be a non-executable regular file", Meaning::Lasting(Blame::Output)),
    ("must not reference store paths", Meaning::Lasting(Blame::Output)),
    // Derivations.
    ("illegal reference specifier", Meaning::Lasting(Blame::Derivation)), // 2.8, 2.26
    ("output check for '", Meaning::Lasting(Blame::Derivation)),          // 2.34
    ("while parsing derivation", Meaning::Lasting(Blame::Derivation)),    // 2.34
    ("odd number of tokens in", Meaning::Lasting(Blame::Derivation)),     // 2.8, 2.26
    ("is too short to be a valid store path", Meaning::Lasting(Blame::Derivation)), // 2.8, 2.26
];

/// What builders print when a disk is full, and what Nix prints when it notices.
const WANT_OF_SPACE: [&str; 5] = [
    "No space left on device",
    "Disk quota exceeded",
    "Read-only file system",
    "lack of free disk space",
    "database or disk is full",
];

/// What git prints when a repository cannot be reached. Nix runs git.
const GIT_OUTAGE: [&str; 3] = ["Could not resolve host", "unable to access '", "Could not read from remote"];

/// Responses of a server that works but does not have the file. The network is not at fault.
const NOT_THERE: [&str; 3] = ["HTTP error 403", "HTTP error 404", "HTTP error 410"];

/// Exit codes that mean that builds failed for good: 100 plus one bit each for timeout, hash mismatch and
/// nondeterminism.
const FAILED_FOR_GOOD: std::ops::RangeInclusive<i32> = 100..=111;

/// Signals from outside, by the number in Nix's message about a builder: hangup, interrupt, kill and terminate.
const FROM_OUTSIDE: [i32; 4] = [1, 2, 9, 15];

/// How many errors of Nix are kept, and how many characters of each.
const MAX_ERRORS: usize = 200;
const MAX_ERROR: usize = 2000;

/// How many activities are tracked.
const MAX_ACTIVITIES: usize = 10_000;

/// What Nix has reported so far, and the activities that have not ended.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The first errors of Nix itself.
    errors: Vec<String>,
    meanings: Vec<Option<Meaning>>,
    obstacle: Option<Obstacle>,
    /// The activities that are running, by their id.
    running: HashMap<u64, Activity>,
    /// Derivations whose builders were started.
    builds: BTreeSet<String>,
}

/// What follows from a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next attempt would fail too.
    Lasting(Vec<Fault>),
    /// The next attempt may succeed.
    Passing(Obstacle),
    /// Unknown. The next attempt may succeed.
    Unknown,
}

/// One failure that would repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The cause.
    pub blame: Blame,
    /// Nix's message, which names the derivation or output.
    error: String,
}

impl Fault {
    /// Whether the message names this store path.
    pub fn is_about(&self, path: &StorePath) -> bool {
        self.error.contains(path.as_str())
    }
}

impl Said {
    /// Reads a line of Nix's structured log.
    pub(super) fn hear(&mut self, line: &str) {
        match Spoken::of(line) {
            Some(Spoken::Error(text)) => {
                let meaning = meaning(&text);
                self.meet(meaning, &text);
                if self.errors.len() < MAX_ERRORS {
                    self.errors.push(text.chars().take(MAX_ERROR).collect());
                    self.meanings.push(meaning);
                }
            }
            // If a binary cache fails, Nix only warns and builds from source instead.
            Some(Spoken::Warning(text)) => self.meet(meaning(&text), &text),
            Some(Spoken::Builder(text)) if is_want_of_space(&text) => {
                self.obstacle.get_or_insert(Obstacle::Space);
            }
            Some(Spoken::Started(id, activity)) if self.running.len() < MAX_ACTIVITIES => {
                if let Activity::Build(path) = &activity
                    && self.builds.len() < MAX_ACTIVITIES
                {
                    self.builds.insert(path.clone());
                }
                self.running.insert(id, activity);
            }
            Some(Spoken::Stopped(id)) => {
                self.running.remove(&id);
            }
            Some(Spoken::Builder(_) | Spoken::Started(..) | Spoken::Trace(_)) | None => {}
        }
    }

    fn meet(&mut self, meaning: Option<Meaning>, text: &str) {
        if is_want_of_space(text) {
            self.obstacle.get_or_insert(Obstacle::Space);
        }
        match meaning {
            Some(Meaning::Passing(Obstacle::Network))
                if NOT_THERE.iter().any(|words| text.contains(words)) => {}
            Some(Meaning::Passing(obstacle)) => {
                self.obstacle.get_or_insert(obstacle);
            }
            _ if GIT_OUTAGE.iter().any(|words| text.contains(words)) => {
                self.obstacle.get_or_insert(Obstacle::Network);
            }
            _ => {}
        }
    }

    /// Why a process ran out of time, if not because of its own work.
    pub(super) fn obstacle_when_time_ran_out(&self) -> Option<Obstacle> {
        let downloads = || {
            self.running.values().any(|activity| matches!(activity, Activity::Download))
                || self.builds.iter().any(|path| is_unfinished_download(path))
        };
        self.obstacle.or_else(|| downloads().then_some(Obstacle::Network))
    }

    /// The temporary problem that made an evaluation fail, if there was one.
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        self.obstacle
    }

    /// Judges a failure with this exit code.
    pub(super) fn judge(&self, status: i32) -> Verdict {
        if let Some(obstacle) = self.obstacle {
            return Verdict::Passing(obstacle);
        }
        // Errors beyond the limit were not kept. One of them may be a temporary problem.
        if self.errors.len() == MAX_ERRORS {
            return Verdict::Unknown;
        }
        let is_for_good = FAILED_FOR_GOOD.contains(&status);
        let mut faults = Vec::new();
        for (error, meaning) in self.errors.iter().zip(&self.meanings) {
            let blame = match meaning {
                Some(Meaning::Lasting(blame)) => *blame,
                Some(Meaning::Passing(_) | Meaning::Follows) => continue,
                Some(Meaning::BuilderFailed) if was_ended(error) => return Verdict::Passing(Obstacle::Ended),
                Some(Meaning::BuilderFailed) => match Derivation::named_in(error) {
                    Some(derivation) if derivation.may_use_the_network() => {
                        return Verdict::Passing(Obstacle::Network);
                    }
                    None if !is_for_good => return Verdict::Unknown,
                    _ => Blame::Builder,
                },
                Some(Meaning::TimedOut) => match self.obstacle_when_time_ran_out() {
                    Some(obstacle) => return Verdict::Passing(obstacle),
                    None => Blame::Time,
                },
                None if is_for_good => Blame::Derivation,
                None => continue,
            };
            faults.push(Fault { blame, error: error.clone() });
        }
        if faults.is_empty() { Verdict::Unknown } else { Verdict::Lasting(faults) }
    }
}

fn is_want_of_space(text: &str) -> bool {
    WANT_OF_SPACE.iter().any(|words| text.contains(words))
}

fn meaning(text: &str) -> Option<Meaning> {
    MEANINGS.iter().find(|(words, _)| text.contains(words)).map(|(_, meaning)| *meaning)
}

/// Whether a signal from outside ended a builder: `… failed due to signal 9 (Killed)`.
fn was_ended(error: &str) -> bool {
    let number = error.split_once("due to signal ").and_then(|(_, rest)| rest.split_once(' '));
    number
        .and_then(|(number, _)| number.parse().ok())
        .is_some_and(|number: i32| FROM_OUTSIDE.contains(&number))
}

/// Whether this derivation may use the network and its output does not exist.
fn is_unfinished_download(drv: &str) -> bool {
    Derivation::read(Path::new(drv)).is_some_and(|derivation| {
        derivation.may_use_the_network() && !derivation.output().is_some_and(Path::exists)
    })
}

#[cfg(test)]
#[path = "failure/tests.rs"]
mod tests;
