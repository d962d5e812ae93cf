//! A package set that is a path: what it holds now.
//!
//! It is watched ([`watch`]): as long as nothing happens in it, its content is what it was. Whatever happens, it is read
//! again ([`content`]), and what is found counts only if nothing happened meanwhile.
//!
//! **Every request asks whether something has happened.** That takes two system calls, or more if links lead out of it:
//! whether the kernel's queue is empty, and whether the path still leads to the same directory. Requests do this at the same
//! time, because nothing is changed by it. Only a request that finds events takes them out of the queue, and for that it
//! needs the state for itself.
//!
//! - **Where watching is impossible**, for want of watches or on a network file system, it is read again when
//!   [`INTERVAL`] has passed. Watching is tried again every [`WATCH_AGAIN`].
//! - **What the kernel does not tell** is found within [`DOUBT`] by reading it again in the background: writing through
//!   a memory map or through a new hard link elsewhere, and mounting something over a directory.

mod content;
mod watch;

use content::{Content, Files, Way};
use firn_shared::Digest;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, RwLock, RwLockWriteGuard};
use std::time::{Duration, Instant};
use watch::{Unfit, Watch};

/// The name that is left out, wherever it is.
const LEFT_OUT: &[u8] = b".git";
/// How long the content is believed that cannot be watched. Short, because people edit their package set and pull again.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long silence is believed.
const DOUBT: Duration = Duration::from_secs(60);
/// How long it is believed that watching is impossible.
const WATCH_AGAIN: Duration = Duration::from_secs(600);
/// How often it is read again at once when it changes meanwhile.
const ATTEMPTS: usize = 2;

/// The content of a path, as it was last seen.
#[derive(Debug)]
pub(super) struct WatchedPath {
    state: Arc<RwLock<State>>,
    /// Held while it is read: everybody else wants the same answer.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    interval: Duration,
    doubt: Duration,
    known: Option<Known>,
    files: Arc<Files>,
    watch: Option<Watch>,
    /// When watching was impossible last.
    unfit: Option<Instant>,
    /// What was last found too large.
    too_large: Vec<PathBuf>,
    /// Whether it is being read in the background.
    doubted: bool,
}

/// What was found.
#[derive(Debug)]
struct Known {
    digest: Digest,
    /// When reading it began. Whoever asked before that is answered by it.
    began: Instant,
    /// When it was last found to be right.
    seen: Instant,
    belief: Belief,
}

/// Until when something counts that was found.
#[derive(Debug)]
enum Belief {
    /// Until something happens there, or these ways to it lead elsewhere.
    Silence(Vec<Way>),
    /// Until the interval has passed: it is not watched.
    Interval,
    /// Not at all: it changed while it was read.
    Never,
}

/// How sure one has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    /// What cannot be watched may have changed a moment ago.
    Recent,
    /// It is as it was when this was asked.
    Exact,
}

impl WatchedPath {
    pub(super) fn new(path: PathBuf) -> Self {
        Self::with(path, INTERVAL, DOUBT)
    }

    fn with(path: PathBuf, interval: Duration, doubt: Duration) -> Self {
        let (known, files, watch, unfit, too_large, doubted) = Default::default();
        let state = State { path, interval, doubt, known, files, watch, unfit, too_large, doubted };
        Self { state: Arc::new(RwLock::new(state)), reading: tokio::sync::Mutex::default() }
    }

    /// What it holds now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn content(&self, certainty: Certainty) -> io::Result<Digest> {
        let asked = Instant::now();
        if let Some(digest) = self.at_once(certainty) {
            return Ok(digest);
        }
        let _turn = self.reading.lock().await;
        // Most often another request was asking at the same moment, and nothing has to be read.
        if let Some(digest) = self.at_once(certainty) {
            return Ok(digest);
        }
        let state = Arc::clone(&self.state);
        let read = move || {
            let mut state = lock(&state);
            // Whoever was first may have read it since this was asked.
            match state.known.as_ref().filter(|known| known.began >= asked) {
                Some(known) => Ok(known.digest),
                None => match state.believed(certainty) {
                    Some(digest) => Ok(digest),
                    None => state.read(),
                },
            }
        };
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    }

    /// What it holds, if that is known and nobody is reading.
    fn at_once(&self, certainty: Certainty) -> Option<Digest> {
        {
            let state = self.state.try_read().ok()?;
            if let Some(digest) = state.undisturbed(certainty)
                && !state.is_doubtful()
            {
                return Some(digest);
            }
        }
        let mut state = self.state.try_write().ok()?;
        let digest = state.believed(certainty)?;
        if state.is_doubtful() && !state.doubted {
            state.doubted = true;
            let (state, path, files) =
                (Arc::clone(&self.state), state.path.clone(), Arc::clone(&state.files));
            tokio::task::spawn_blocking(move || {
                let read = Content::read(&path, &files, None);
                lock(&state).dispel(digest, read);
            });
        }
        Some(digest)
    }
}

fn lock(state: &RwLock<State>) -> RwLockWriteGuard<'_, State> {
    state.write().expect("nothing panics while holding the lock")
}

impl State {
    /// What is known, if it still counts and the kernel has told of no event since.
    fn undisturbed(&self, certainty: Certainty) -> Option<Digest> {
        let known = self.known.as_ref()?;
        let counts = match (&known.belief, &self.watch) {
            (Belief::Silence(ways), Some(watch)) => watch.is_empty() && ways.iter().all(Way::is_same),
            (Belief::Interval, _) => certainty == Certainty::Recent && known.seen.elapsed() < self.interval,
            _ => false,
        };
        counts.then_some(known.digest)
    }

    /// What is known, if it still counts. Events are taken out of the queue, so what they say is kept.
    fn believed(&mut self, certainty: Certainty) -> Option<Digest> {
        let is_quiet = self.watch.as_mut().is_none_or(Watch::is_quiet);
        let digest = self.undisturbed(certainty).filter(|_| is_quiet);
        if let (None, Some(Known { belief: belief @ Belief::Silence(_), .. })) = (digest, &mut self.known) {
            *belief = Belief::Never;
        }
        digest
    }

    /// Whether silence has been believed for so long that it is to be read in the background.
    fn is_doubtful(&self) -> bool {
        self.known
            .as_ref()
            .is_some_and(|k| matches!(k.belief, Belief::Silence(_)) && k.seen.elapsed() >= self.doubt)
    }

    /// Reads it, again if it changes meanwhile.
    fn read(&mut self) -> io::Result<Digest> {
        for attempt in 1.. {
            let began = Instant::now();
            self.prepare();
            let read = Content::read(&self.path, &self.files, self.watch.as_mut());
            let is_quiet = self.watch.as_mut().map(|watch| watch.end().map(|()| watch.is_quiet()));
            match (read, is_quiet) {
                // Perhaps it failed because of the change.
                (_, Some(Ok(false))) if attempt < ATTEMPTS => {}
                (read, Some(Ok(false))) => return Ok(self.keep(read?, began, |_| Belief::Never)),
                (read, Some(Ok(true))) => return Ok(self.keep(read?, began, Belief::Silence)),
                (read, unfit) => {
                    if let Some(Err(unfit)) = unfit {
                        self.give_up(&unfit);
                    }
                    return Ok(self.keep(read?, began, |_| Belief::Interval));
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// What was read is known now.
    fn keep(&mut self, content: Content, began: Instant, belief: impl FnOnce(Vec<Way>) -> Belief) -> Digest {
        let Content { digest, files, ways, too_large } = content;
        self.files = Arc::new(files);
        for place in too_large.iter().filter(|place| !self.too_large.contains(place)) {
            tracing::warn!(place = %place.display(), "a link leads out of the package set to what is too large: changes there are not seen");
        }
        self.too_large = too_large;
        self.known = Some(Known { digest, began, seen: began, belief: belief(ways) });
        digest
    }

    /// A queue for what happens, if there can be one.
    fn prepare(&mut self) {
        let may_watch = self.unfit.is_none_or(|when| when.elapsed() >= WATCH_AGAIN);
        if self.watch.is_none() && may_watch {
            match Watch::new() {
                Ok(watch) => self.watch = Some(watch),
                Err(unfit) => self.give_up(&unfit),
            }
        }
        if let Some(watch) = &mut self.watch {
            watch.begin();
        }
    }

    fn give_up(&mut self, reason: &Unfit) {
        self.watch = None;
        if self.unfit.replace(Instant::now()).is_none() {
            let interval_s = self.interval.as_secs();
            tracing::warn!(path = %self.path.display(), interval_s, reason = %reason, "the package set cannot be watched, and is read again at each request after the interval");
        }
    }

    /// Takes in what was read in the background because this digest had been believed for long.
    fn dispel(&mut self, digest: Digest, read: io::Result<Content>) {
        self.doubted = false;
        let Some(known) = self.known.as_mut().filter(|known| known.digest == digest) else { return };
        match read {
            Ok(content) if content.digest == digest => known.seen = Instant::now(),
            // It may just be changing, of which there would be word.
            _ => known.belief = Belief::Never,
        }
    }
}

#[cfg(test)]
mod tests;
