//! The processes of a build: Nix, its builders, and whatever those start.
//!
//! Builders run in sessions of their own, so neither a signal to Nix's process group nor a limit on one process
//! reaches all of them. They are found as children of known processes. They are remembered, because a process loses
//! its parent when that ends. A process that is started and orphaned between two looks is missed; Nix's build users
//! or its sandbox contain it. The builders of a Nix daemon are not descendants of Firn: the daemon limits them.

use procfs::process::Process;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;

/// A process, and all its descendants that were seen.
#[derive(Debug)]
pub(super) struct Family {
    root: i32,
    /// Descendants by process id, each with its start time, because ids are reused.
    seen: HashMap<i32, u64>,
}

impl Family {
    /// The family of a process.
    pub(super) fn of(root: Pid) -> Self {
        Self { root: root.as_raw_nonzero().get(), seen: HashMap::new() }
    }

    /// Finds new descendants. Returns the memory that all of them use, in bytes: anonymous pages, without pages
    /// mapped from files.
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

    /// Kills all descendants that were seen and still run, but not the root.
    pub(super) fn end(&mut self) {
        self.look();
        for (pid, started) in std::mem::take(&mut self.seen) {
            if started_at(pid).is_some_and(|(_, now)| now == started)
                && let Some(pid) = Pid::from_raw(pid)
            {
                // Fails if the process has ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// The process with this id, if it is a member that still runs. Forgets the id if another process uses it now.
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

/// If this is bubblewrap (see `isolation`), the process that it has started; otherwise the process itself. bubblewrap
/// runs as two processes: the one that waits, and the first of the process namespace.
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

/// A running process and its start time, in clock ticks since the machine booted.
fn started_at(pid: i32) -> Option<(Process, u64)> {
    let process = Process::new(pid).ok()?;
    let stat = process.stat().ok()?;
    (stat.state != 'Z').then_some((process, stat.starttime))
}
