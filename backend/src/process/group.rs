//! A program that runs in a process group of its own, with everything that it starts.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use tokio::process::{Child, Command};

/// The process group of a program. Dropping it kills the group, unless [`Self::forget`] was called.
#[derive(Debug)]
pub(crate) struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// Starts a program in a new process group.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<(Child, Self)> {
        let child = command.process_group(0).spawn()?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok((child, Self(id)))
    }

    /// The id of the group, which is that of the program. `None` if it was forgotten.
    pub(crate) fn id(&self) -> Option<Pid> {
        self.0
    }

    /// Sends no more signals. Call this when the program was waited for: its id may soon be another program's.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // Fails if the group has ended.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}
