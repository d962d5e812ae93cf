//! Where builds stand, for those who wait for them and for their pages.

use crate::nix::BuildLog;
use firn_shared::cache_key::CacheKey;
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// How many builds are remembered with their logs.
const KEPT: usize = 500;

/// What a build is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Looking up what is known, waiting for its turn.
    Waiting,
    /// Nix evaluates the package set.
    Resolving,
    /// Nix builds or downloads store paths.
    Realising,
    /// Layers are packed.
    Packing {
        /// Layers that are packed.
        done: usize,
        /// Layers that had to be.
        total: usize,
    },
    /// There is an image.
    Done {
        /// Its OCI manifest's digest.
        digest: String,
    },
    /// There is none.
    Failed {
        /// What the client was told.
        message: String,
    },
}

/// One build's progress, shared between the build and all who look.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: CacheKey,
    image: String,
    started: u64,
    state: Mutex<State>,
    /// Counts changes, so that watchers see that there was one.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    log: BuildLog,
}

/// A build as its page shows it.
#[derive(Debug, Clone, Serialize)]
pub struct BuildPage {
    /// Which build.
    pub id: String,
    /// Which image.
    pub image: String,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// What it is doing, in a few words.
    pub summary: String,
    /// The same for programs.
    #[serde(flatten)]
    pub phase: Phase,
    /// What Nix does, or did.
    pub nix: BuildLog,
}

impl Progress {
    /// A build that has just begun.
    pub fn new(id: CacheKey, image: String) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |duration| duration.as_secs());
        let state = Mutex::new(State { phase: Phase::Waiting, log: BuildLog::default() });
        Self(Arc::new(Shared { id, image, started, state, changes: watch::Sender::new(0) }))
    }

    /// The build goes on to another phase.
    pub fn enter(&self, phase: Phase) {
        self.state().phase = phase;
        self.changed();
    }

    /// One more layer is packed.
    pub fn layer_packed(&self) {
        if let Phase::Packing { done, .. } = &mut self.state().phase {
            *done += 1;
        }
        self.changed();
    }

    /// Nix has written a line to its log.
    pub fn nix_line(&self, line: &str) {
        self.state().log.line(line);
        self.changed();
    }

    /// What Nix has done.
    pub fn log(&self) -> BuildLog {
        self.state().log.clone()
    }

    /// Whether nothing more will happen.
    pub fn has_ended(&self) -> bool {
        matches!(self.state().phase, Phase::Done { .. } | Phase::Failed { .. })
    }

    /// Tells of changes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// In a few words, for an error message: `building 12 of 40, python3-3.11`.
    pub fn summary(&self) -> String {
        let state = self.state();
        match &state.phase {
            Phase::Waiting => "waiting for its turn".into(),
            Phase::Resolving => "evaluating the package set".into(),
            Phase::Realising => state.log.summary().unwrap_or_else(|| "starting its build".into()),
            Phase::Packing { done, total } => format!("packing layers, {done} of {total} done"),
            Phase::Done { digest } => format!("done, {digest}"),
            Phase::Failed { message } => format!("failed: {message}"),
        }
    }

    /// Everything, for the build's page.
    pub fn page(&self) -> BuildPage {
        let summary = self.summary();
        let state = self.state();
        BuildPage {
            id: self.0.id.to_string(),
            image: self.0.image.clone(),
            started: self.0.started,
            summary,
            phase: state.phase.clone(),
            nix: state.log.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics while holding the lock")
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }
}

/// The latest builds, by image key.
#[derive(Debug, Default)]
pub struct Builds(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    builds: HashMap<String, Progress>,
    oldest_first: VecDeque<String>,
}

impl Builds {
    /// Remembers a build; of an image built again, the latest build counts.
    pub fn add(&self, progress: &Progress) {
        let mut kept = self.kept();
        let id = progress.0.id.to_string();
        if kept.builds.insert(id.clone(), progress.clone()).is_none() {
            kept.oldest_first.push_back(id);
        }
        if kept.oldest_first.len() > KEPT
            && let Some(oldest) = kept.oldest_first.pop_front()
        {
            kept.builds.remove(&oldest);
        }
    }

    /// The build of this id, while it is remembered.
    pub fn get(&self, id: &str) -> Option<Progress> {
        self.kept().builds.get(id).cloned()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nothing panics while holding the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_a_bounded_number() {
        let builds = Builds::default();
        let progress =
            |i: usize| Progress::new(CacheKey::builder("t").field(i.to_le_bytes()).build(), "git".into());
        let all: Vec<_> = (0..KEPT + 1).map(progress).collect();
        all.iter().for_each(|progress| builds.add(progress));
        assert!(builds.get(&all[0].page().id).is_none());
        assert!(builds.get(&all[KEPT].page().id).is_some());
    }

    #[test]
    fn tells_of_changes() {
        let progress = Progress::new(CacheKey::builder("t").build(), "git".into());
        let watch = progress.watch();
        progress.enter(Phase::Packing { done: 0, total: 2 });
        progress.layer_packed();
        assert!(watch.has_changed().expect("the build is there"));
        assert_eq!(progress.summary(), "packing layers, 1 of 2 done");
        let page = serde_json::to_value(progress.page()).expect("serialises");
        assert_eq!((&page["phase"], &page["done"]), (&"packing".into(), &1.into()));
        assert!(!progress.has_ended());
    }
}
