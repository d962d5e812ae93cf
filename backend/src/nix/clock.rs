//! The time that a Nix process has taken. Downloads have a limit of their own: how long they take depends on a host and on
//! the network, and nothing of one that is ended is kept.

use firn_shared::nix::log::{Activity, Spoken};
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many downloads are tracked.
const MAX_DOWNLOADS: usize = 1000;

/// Measures one process.
#[derive(Debug)]
pub(super) struct Clock {
    /// Limit of the time without downloads.
    limit: Duration,
    /// Limit of the time in which something is downloaded.
    download_limit: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The time without downloads, and that with downloads, until `since`.
    spent: Duration,
    downloading: Duration,
    since: Instant,
    /// The downloads that are running, by the number of their activity.
    running: HashSet<u64>,
}

impl Clock {
    /// A clock that starts now. If `download_limit` is zero, downloads count like anything else.
    pub(super) fn start(limit: Duration, download_limit: Duration) -> Self {
        let state = State {
            spent: Duration::ZERO,
            downloading: Duration::ZERO,
            since: Instant::now(),
            running: HashSet::new(),
        };
        Self { limit, download_limit, state: Mutex::new(state) }
    }

    /// Reads a line of Nix's structured log.
    pub(super) fn hear(&self, line: &str) {
        match Spoken::of(line) {
            Some(Spoken::Started(id, Activity::Download)) if !self.download_limit.is_zero() => {
                let mut state = self.now();
                if state.running.len() < MAX_DOWNLOADS {
                    state.running.insert(id);
                }
            }
            Some(Spoken::Stopped(id)) => {
                self.now().running.remove(&id);
            }
            _ => {}
        }
    }

    /// The time without downloads.
    pub(super) fn spent(&self) -> Duration {
        self.now().spent
    }

    /// Returns the limit that was exceeded. Until then, it does not return.
    pub(super) async fn runs_out(&self) -> Duration {
        loop {
            let (spent, downloading) = {
                let state = self.now();
                (state.spent, state.downloading)
            };
            if spent >= self.limit {
                return self.limit;
            }
            if !self.download_limit.is_zero() && downloading >= self.download_limit {
                return self.download_limit;
            }
            let left = match self.download_limit.is_zero() {
                true => self.limit - spent,
                // Neither can be exceeded earlier.
                false => (self.limit - spent).min(self.download_limit - downloading),
            };
            tokio::time::sleep(left).await;
        }
    }

    /// The state at this moment.
    fn now(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = state.since.elapsed();
        state.since += passed;
        match state.running.is_empty() {
            true => state.spent += passed,
            false => state.downloading += passed,
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(20);

    fn start(id: u64) -> String {
        format!(
            r#"@nix {{"action":"start","id":{id},"type":101,"level":4,"text":"downloading","fields":["http://x"]}}"#
        )
    }

    fn stop(id: u64) -> String {
        format!(r#"@nix {{"action":"stop","id":{id}}}"#)
    }

    #[tokio::test]
    async fn downloads_have_a_limit_of_their_own() {
        let clock = Clock::start(SHORT, LONG);
        assert_eq!(clock.runs_out().await, SHORT);

        // However long it lasts, a download does not use up the time of the rest.
        let clock = Clock::start(LONG, SHORT);
        clock.hear(&start(1));
        clock.hear(&start(2));
        clock.hear(&stop(1));
        let before = clock.spent();
        assert_eq!(clock.runs_out().await, SHORT);
        assert_eq!(clock.spent(), before);
        clock.hear(&stop(2));
        tokio::time::sleep(SHORT).await;
        assert!(clock.spent() >= before + SHORT);

        // Unless there is no such limit.
        let clock = Clock::start(SHORT, Duration::ZERO);
        clock.hear(&start(1));
        assert_eq!(clock.runs_out().await, SHORT);
    }
}
