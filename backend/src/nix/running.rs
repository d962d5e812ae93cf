//! The Nix processes that are running, so that all of them can be ended.

use super::{Nix, family::behind_bubblewrap};
use crate::process::ProcessGroup;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::HashSet;
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;
use tokio::process::Child;

/// How long a process that was asked to end may take. Nix uses the time to end its builders: they run in sessions of
/// their own, which a signal to the group does not reach.
const GRACE: Duration = Duration::from_secs(5);

/// The process groups that are running, and whether no more may be started.
#[derive(Debug, Clone, Default)]
pub(super) struct RunningGroups(Arc<Mutex<HashSet<Pid>>>, Arc<AtomicBool>);

impl RunningGroups {
    fn ids(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.0.lock().expect("nothing panics while holding the lock")
    }

    /// Counts a group as running until the result is dropped. `None` if no more may be started; then the group is
    /// killed.
    pub(super) fn enter(&self, (child, group): (Child, ProcessGroup)) -> Option<RunningGroup> {
        let entry = Entry { id: group.id(), all: self.clone() };
        self.ids().extend(entry.id);
        let running = RunningGroup { child, group, _entry: entry };
        // Checked after it was entered: so either this or the caller of `close` ends it.
        (!self.1.load(Ordering::SeqCst)).then_some(running)
    }

    /// From now on no process may be started.
    fn close(&self) {
        self.1.store(true, Ordering::SeqCst);
    }

    /// Waits until no group is left. Returns false if the grace period passes before.
    async fn gone(&self) -> bool {
        let gone = async {
            while !self.ids().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(GRACE, gone).await.is_ok()
    }

    fn signal(&self, signal: Signal) {
        for id in self.ids().iter() {
            send(*id, signal);
        }
    }
}

/// Sends a signal to the process group of a Nix process. If Nix runs in bubblewrap, SIGTERM goes to Nix alone,
/// because bubblewrap would end everything at once.
fn send(group: Pid, signal: Signal) {
    let nix = behind_bubblewrap(group);
    // Fails if the process has ended.
    let _ = if signal == Signal::TERM && nix != group {
        kill_process(nix, signal)
    } else {
        kill_process_group(group, signal)
    };
}

/// A Nix process that is running. Dropping it kills its group at once, because a build that was cancelled waits for no
/// grace period. Builders end with the Nix process that started them.
pub(super) struct RunningGroup {
    pub(super) child: Child,
    pub(super) group: ProcessGroup,
    /// The group leaves the list after it was killed.
    _entry: Entry,
}

impl RunningGroup {
    /// Asks the group to end. Kills it if it does not.
    pub(super) async fn end(&mut self) {
        if let Some(id) = self.group.id() {
            send(id, Signal::TERM);
        }
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            if let Some(id) = self.group.id() {
                send(id, Signal::KILL);
            }
            // Fails only if the process has been waited for already.
            let _ = self.child.wait().await;
        }
        self.group.forget();
    }
}

/// A group's entry in the list.
struct Entry {
    id: Option<Pid>,
    all: RunningGroups,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.all.ids().remove(&id);
        }
    }
}

impl Nix {
    /// Ends every process that is running: asks, waits, then kills. No process is started after this. For when Firn
    /// itself ends.
    pub async fn end_all(&self) {
        self.running.close();
        self.running.signal(Signal::TERM);
        if !self.running.gone().await {
            self.kill_all().await;
        }
    }

    /// Like [`Self::end_all`], without asking.
    pub async fn kill_all(&self) {
        self.running.close();
        self.running.signal(Signal::KILL);
        // The tasks that wait for the processes end their descendants.
        self.running.gone().await;
    }
}
