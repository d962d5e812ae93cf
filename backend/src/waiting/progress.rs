//! The progress of builds, for the clients that wait for them and for the builds' pages.

use super::audience::Audience;
use firn_shared::nix::log::BuildLog;
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// What a client is told of a panic.
pub(crate) const DEFECT: &str = "a defect in Firn; its operator finds the reason in the log";

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
    /// Binary caches are asked what they have of the packages.
    Asking {
        /// Store paths that are known.
        done: usize,
        /// Store paths that have turned up so far.
        total: usize,
    },
    /// Nix builds what no binary cache has.
    Realising,
    /// Store paths are downloaded, and layers are packed meanwhile.
    Fetching {
        /// Store paths that have been downloaded.
        done: usize,
        /// Store paths that have to be.
        total: usize,
        /// Bytes that have been downloaded.
        done_bytes: u64,
        /// Bytes that have to be.
        total_bytes: u64,
    },
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

/// One build's progress, shared between the build and everything that shows it.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Random: with the id a client may read what builders print.
    id: String,
    image: String,
    audience: Arc<Audience>,
    started: u64,
    state: Mutex<State>,
    /// Counts changes, so that watchers see that there was one.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// What packing downloads.
    fetch: Option<Fetch>,
    log: BuildLog,
}

/// A download of several store paths.
#[derive(Debug)]
struct Fetch {
    done: usize,
    total: usize,
    done_bytes: Arc<AtomicU64>,
    total_bytes: u64,
}

impl State {
    /// The phase as it is shown: downloads take longer than packing, so they are what is told first.
    fn shown(&self) -> Phase {
        match (&self.phase, &self.fetch) {
            (Phase::Packing { .. }, Some(Fetch { done, total, done_bytes, total_bytes })) if done < total => {
                // What is read again after a failure counts twice.
                let done_bytes = done_bytes.load(Ordering::Relaxed).min(*total_bytes);
                Phase::Fetching { done: *done, total: *total, done_bytes, total_bytes: *total_bytes }
            }
            (phase, _) => phase.clone(),
        }
    }
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
    ///
    /// # Panics
    /// When the system has no random numbers.
    pub fn new(image: String, audience: Arc<Audience>) -> Self {
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect("the system has random numbers");
        let id = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let started = now();
        let state = Mutex::new(State { phase: Phase::Waiting, fetch: None, log: BuildLog::default() });
        Self(Arc::new(Shared { id, image, audience, started, state, changes: watch::Sender::new(0) }))
    }

    /// The id, which is also the name of its page.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// How many seconds ago it began.
    pub fn age_seconds(&self) -> u64 {
        now().saturating_sub(self.0.started)
    }

    /// The clients that wait for it.
    pub fn audience(&self) -> &Arc<Audience> {
        &self.0.audience
    }

    /// The build goes on to another phase.
    pub fn enter(&self, phase: Phase) {
        let mut state = self.state();
        (state.phase, state.fetch) = (phase, None);
        drop(state);
        self.changed();
    }

    /// The layers that are being packed need these downloads: how many store paths, and how many bytes.
    pub fn fetch(&self, paths: usize, bytes: u64) {
        self.state().fetch =
            Some(Fetch { done: 0, total: paths, done_bytes: Arc::default(), total_bytes: bytes });
        self.changed();
    }

    /// Counts the bytes that are downloaded.
    pub fn fetched_bytes(&self) -> Arc<AtomicU64> {
        self.state().fetch.as_ref().map_or_else(Arc::default, |fetch| Arc::clone(&fetch.done_bytes))
    }

    /// One more store path is downloaded.
    pub fn path_fetched(&self) {
        if let Some(fetch) = &mut self.state().fetch {
            fetch.done += 1;
        }
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

    /// Marks the build as failed if the guard is dropped early, as by a panic.
    pub(crate) fn ends(&self) -> Ends {
        Ends(self.clone())
    }

    /// Changes whenever the progress does.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// In a few words, for an error message: `building 12 of 40, python3-3.11`.
    pub fn summary(&self) -> String {
        let state = self.state();
        match state.shown() {
            Phase::Waiting => "waiting for its turn".into(),
            Phase::Resolving => "evaluating the package set".into(),
            Phase::Realising => state.log.summary().unwrap_or_else(|| "starting its build".into()),
            Phase::Asking { done, total } => format!("asking binary caches, {done} of {total} store paths"),
            Phase::Fetching { done, total, done_bytes, total_bytes } => {
                let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
                let (have, all) = (megabytes(done_bytes), megabytes(total_bytes));
                format!("fetching {done} of {total} store paths, {have} of {all} MB")
            }
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
            id: self.0.id.clone(),
            image: self.0.image.clone(),
            started: self.0.started,
            summary,
            phase: state.shown(),
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

/// A guard: when it is dropped, the build has ended.
#[derive(Debug)]
pub(crate) struct Ends(Progress);

impl Drop for Ends {
    fn drop(&mut self) {
        if !self.0.has_ended() {
            self.0.enter(Phase::Failed { message: DEFECT.into() });
        }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |duration| duration.as_secs())
}

/// The latest builds.
#[derive(Debug, Default)]
pub struct Builds(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<String, Progress>,
    oldest_first: VecDeque<String>,
}

impl Builds {
    /// Remembers a build. Earlier ones of the same image stay: messages name them.
    pub fn add(&self, progress: &Progress) {
        let mut kept = self.kept();
        let id = progress.id().to_owned();
        kept.by_id.insert(id.clone(), progress.clone());
        kept.oldest_first.push_back(id);
        if kept.oldest_first.len() > KEPT
            && let Some(oldest) = kept.oldest_first.pop_front()
        {
            kept.by_id.remove(&oldest);
        }
    }

    /// The build of this id, while it is remembered.
    pub fn get(&self, id: &str) -> Option<Progress> {
        self.kept().by_id.get(id).cloned()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nothing panics while holding the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::super::audience::Client;
    use super::*;

    fn progress() -> Progress {
        Progress::new("git".into(), Audience::of(Client::NOBODY))
    }

    #[test]
    fn remembers_a_bounded_number() {
        let builds = Builds::default();
        let add = |_| {
            let progress = progress();
            builds.add(&progress);
            progress.id().to_owned()
        };
        let ids: Vec<_> = (0..=KEPT).map(add).collect();
        assert_ne!(ids[0], ids[1], "ids are random");
        assert!(builds.get(&ids[0]).is_none());
        assert!(builds.get(&ids[1]).is_some() && builds.get(&ids[KEPT]).is_some());
        assert_eq!(builds.kept().by_id.len(), KEPT);
    }

    #[test]
    fn a_build_that_panics_has_ended() {
        let progress = progress();
        let build = progress.clone();
        let ended = std::thread::spawn(move || {
            let _ends = build.ends();
            assert!(build.has_ended(), "it has not, and panics");
        });
        assert!(ended.join().is_err());
        assert!(progress.summary().starts_with("failed: a defect"), "{}", progress.summary());
    }

    #[test]
    fn tells_of_downloads_before_packing() {
        let progress = progress();
        progress.enter(Phase::Packing { done: 0, total: 2 });
        progress.fetch(2, 142_000_000);
        progress.fetched_bytes().fetch_add(60_500_000, Ordering::Relaxed);
        progress.path_fetched();
        assert_eq!(progress.summary(), "fetching 1 of 2 store paths, 61 of 142 MB");
        let page = serde_json::to_value(progress.page()).expect("serialises");
        assert_eq!((&page["phase"], &page["done_bytes"]), (&"fetching".into(), &60_500_000.into()));
        progress.path_fetched();
        assert_eq!(progress.summary(), "packing layers, 0 of 2 done");
    }

    #[test]
    fn tells_of_changes() {
        let progress = progress();
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
