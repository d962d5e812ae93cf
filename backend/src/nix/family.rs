//! A build's processes: Nix, its builders, and whatever those start.
//!
//! Builders run in sessions of their own, so neither a signal to Nix's process group nor a limit on one
//! process reaches all of them. They are found by descent, and remembered, because a process whose parent has
//! ended is nobody's child. What descends and is orphaned between two looks is missed; Nix's build users or
//! its sandbox keep that in too. A Nix daemon's builders are no descendants of ours: the daemon bounds them.

use procfs::process::Process;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;

/// A process and all that have been seen to descend from it.
#[derive(Debug)]
pub(super) struct Family {
    root: i32,
    /// Descendants by number, each with when it was started: numbers are used again.
    seen: HashMap<i32, u64>,
}

impl Family {
    /// The family of a process.
    pub(super) fn of(root: Pid) -> Self {
        Self { root: root.as_raw_nonzero().get(), seen: HashMap::new() }
    }

    /// Looks who is there, and returns how much memory they use together, in bytes: their own pages, without
    /// what they only map from files.
    pub(super) fn look(&mut self) -> u64 {
        let mut memory = 0;
        let mut next: Vec<i32> = [self.root].into_iter().chain(self.seen.keys().copied()).collect();
        let mut done = std::collections::HashSet::new();
        while let Some(pid) = next.pop() {
            if !done.insert(pid) {
                continue;
            }
            let Some(process) = self.member(pid) else { continue };
            memory += process.status().ok().and_then(|status| status.rssanon).unwrap_or(0) << 10;
            for task in process.tasks().into_iter().flatten().flatten() {
                next.extend(task.children().into_iter().flatten().filter_map(|pid| i32::try_from(pid).ok()));
            }
        }
        memory
    }

    /// Ends all who were seen and are still there, but for the root.
    pub(super) fn end(&mut self) {
        self.look();
        for (pid, started) in std::mem::take(&mut self.seen) {
            if started_at(pid).is_some_and(|(_, now)| now == started)
                && let Some(pid) = Pid::from_raw(pid)
            {
                // Fails when it has ended by itself, which is what was wanted.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// A member that is there; one whose number means another process now is forgotten.
    fn member(&mut self, pid: i32) -> Option<Process> {
        let found = started_at(pid);
        if pid == self.root {
            return found.map(|(process, _)| process);
        }
        let Some((process, started)) = found else {
            self.seen.remove(&pid);
            return None;
        };
        if *self.seen.entry(pid).or_insert(started) == started {
            Some(process)
        } else {
            self.seen.remove(&pid);
            None
        }
    }
}

/// The process that bubblewrap has started, if this is one of bubblewrap's (see `isolation`); else the process itself.
/// bubblewrap takes two: the one that waits for the other, and the first of the process namespace.
pub(super) fn behind_bubblewrap(pid: Pid) -> Pid {
    let mut at = pid;
    while let Ok(process) = Process::new(at.as_raw_nonzero().get())
        && process.stat().is_ok_and(|stat| stat.comm == "bwrap")
        && let Some(child) = process.tasks().into_iter().flatten().flatten().find_map(|task| {
            let child = task.children().ok()?.into_iter().next()?;
            Pid::from_raw(child.cast_signed())
        })
    {
        at = child;
    }
    at
}

/// A process that runs, and when it was started, in clock ticks since the machine was.
fn started_at(pid: i32) -> Option<(Process, u64)> {
    let process = Process::new(pid).ok()?;
    let stat = process.stat().ok()?;
    (stat.state != 'Z').then_some((process, stat.starttime))
}
