//! Why a Nix process failed: what its log says, and whether the next attempt would fail alike.
//!
//! Exit codes alone cannot tell. Nix's own programs end with 100 and more when builds failed for good (Nix manual,
//! nix-store, "Special exit codes"), but clients of a Nix daemon end with 1 whatever happened. So the structured log
//! decides: Nix's errors by the words in [`MEANINGS`], which are tried against Nix 2.8, 2.26 and 2.34, and activities
//! that never ended. What is not understood counts as passing, unless the exit code says otherwise.

use super::derivation::Derivation;
use firn_shared::{
    StorePath,
    nix::log::{Activity, Spoken},
};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// What is to blame when a package cannot be realised for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Blame {
    /// Its builder failed.
    #[error("a builder failed")]
    Builder,
    /// Its builder took too long.
    #[error("a builder took too long")]
    Time,
    /// Its builder ended well, and Nix rejected what it made.
    #[error("an output was rejected")]
    Output,
    /// What was downloaded for it has another hash than the package set says.
    #[error("a download has another hash than it should have")]
    Hash,
    /// Nix knows no machine of its system, or with the features that it needs.
    #[error("there is no machine that could build it")]
    Machine,
    /// Nix cannot make sense of its derivation.
    #[error("a derivation makes no sense to Nix")]
    Derivation,
}

/// What was in the way of a build, and may be gone at the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A download or a binary cache failed.
    #[error("the network or a binary cache failed")]
    Network,
    /// A disk is full, or cannot be written.
    #[error("a disk has no space left")]
    Space,
    /// Somebody ended a builder: a person, or the system for want of memory.
    #[error("a builder was ended from outside")]
    Ended,
}

/// What one of Nix's messages means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// A derivation is to blame.
    Lasting(Blame),
    /// Circumstances are.
    Passing(Obstacle),
    /// A builder failed. It depends on the derivation what that means: one that may use the network may succeed later.
    BuilderFailed,
    /// A builder took too long. Likewise.
    TimedOut,
    /// Something else failed, which is reported too.
    Follows,
}

/// What Nix says, and what it means. The first entry whose words are in a message counts. Where a version is named,
/// others say it in the words of another entry.
const MEANINGS: [(&str, Meaning); 31] = [
    // Binary caches.
    ("some substitutes for the outputs of derivation", Meaning::Passing(Obstacle::Network)),
    ("no substituter that can build it", Meaning::Passing(Obstacle::Network)),
    ("does not exist in binary cache", Meaning::Passing(Obstacle::Network)),
    ("hash mismatch importing path", Meaning::Passing(Obstacle::Network)),
    ("' is incomplete", Meaning::Passing(Obstacle::Network)),
    ("unable to download", Meaning::Passing(Obstacle::Network)),
    // What else failed.
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

/// What builders say of a want of space, and Nix where it sees that.
const WANT_OF_SPACE: [&str; 5] = [
    "No space left on device",
    "Disk quota exceeded",
    "Read-only file system",
    "lack of free disk space",
    "database or disk is full",
];

/// What git says, whom Nix asks for repositories.
const GIT_OUTAGE: [&str; 3] = ["Could not resolve host", "unable to access '", "Could not read from remote"];

/// How servers answer that are there and do not have it: the network is not to blame.
const NOT_THERE: [&str; 3] = ["HTTP error 403", "HTTP error 404", "HTTP error 410"];

/// Exit codes by which Nix tells that builds failed for good: 100 and more, with a bit each for time-out, hash
/// mismatch and nondeterminism.
const FAILED_FOR_GOOD: std::ops::RangeInclusive<i32> = 100..=111;

/// Signals that come from outside, as Nix reports those that ended a builder: hangup, interrupt, kill and terminate.
const FROM_OUTSIDE: [i32; 4] = [1, 2, 9, 15];

/// How many of Nix's errors are kept, and how much of each, in characters.
const MAX_ERRORS: usize = 200;
const MAX_ERROR: usize = 2000;

/// How many activities are followed.
const MAX_ACTIVITIES: usize = 10_000;

/// What Nix has said and not finished so far.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Nix's own errors, the first of them.
    errors: Vec<String>,
    meanings: Vec<Option<Meaning>>,
    obstacle: Option<Obstacle>,
    /// What is under way, by activity: a derivation that is built, or nothing that has a name.
    running: HashMap<u64, Activity>,
    /// Derivations whose builders were started.
    builds: BTreeSet<String>,
}

/// What a failure comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next attempt would fail alike.
    Lasting(Vec<Fault>),
    /// It may succeed.
    Passing(Obstacle),
    /// Nobody can tell, so it may.
    Unknown,
}

/// One thing that failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is to blame.
    pub blame: Blame,
    /// What Nix said, of which derivation or output.
    error: String,
}

impl Fault {
    /// Whether it is about this store path.
    pub fn is_about(&self, path: &StorePath) -> bool {
        self.error.contains(path.as_str())
    }
}

impl Said {
    /// Takes in a line of Nix's structured log.
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
            // A binary cache that fails is passed over with a warning, and things are built instead.
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

    /// What was in the way of a process that was ended because its time ran out, if that was not its own work.
    pub(super) fn obstacle_when_time_ran_out(&self) -> Option<Obstacle> {
        let downloads = || {
            self.running.values().any(|activity| matches!(activity, Activity::Download))
                || self.builds.iter().any(|path| is_unfinished_download(path))
        };
        self.obstacle.or_else(|| downloads().then_some(Obstacle::Network))
    }

    /// What was in the way of an evaluation that failed.
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        self.obstacle
    }

    /// What a failure with this exit code comes to.
    pub(super) fn judge(&self, status: i32) -> Verdict {
        if let Some(obstacle) = self.obstacle {
            return Verdict::Passing(obstacle);
        }
        // One that was not kept may be about circumstances.
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

/// Whether a builder was ended by a signal from outside: `… failed due to signal 9 (Killed)`.
fn was_ended(error: &str) -> bool {
    let number = error.split_once("due to signal ").and_then(|(_, rest)| rest.split_once(' '));
    number
        .and_then(|(number, _)| number.parse().ok())
        .is_some_and(|number: i32| FROM_OUTSIDE.contains(&number))
}

/// Whether this derivation may use the network, and its output is not there.
fn is_unfinished_download(drv: &str) -> bool {
    Derivation::read(Path::new(drv)).is_some_and(|derivation| {
        derivation.may_use_the_network() && !derivation.output().is_some_and(Path::exists)
    })
}

#[cfg(test)]
#[path = "failure/tests.rs"]
mod tests;
