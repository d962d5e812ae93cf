//! Ends a command, and everything that it started, when a signal arrives.
//!
//! Nix runs in process groups of its own, so Ctrl-C at the terminal reaches Firn alone.

use super::{Failure, builder::BuilderArgs};
use crate::images::Builder;
use rustix::process::Signal;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

/// How long to wait for threads that pack. Their files are removed afterwards.
const GRACE: Duration = Duration::from_secs(1);

/// The signals that end a command: Ctrl-C, a request to terminate, and a closed terminal.
struct Interrupts([(Signal, Signals); 3]);

impl Interrupts {
    /// Catches the signals: from now on they do not end the process by themselves.
    fn new() -> io::Result<Self> {
        Ok(Self([
            (Signal::INT, signal(SignalKind::interrupt())?),
            (Signal::TERM, signal(SignalKind::terminate())?),
            (Signal::HUP, signal(SignalKind::hangup())?),
        ]))
    }

    /// Waits for the next signal.
    async fn next(&mut self) -> Failure {
        let [interrupt, term, hangup] = &mut self.0;
        let signal = tokio::select! {
            _ = interrupt.1.recv() => interrupt.0,
            _ = term.1.recv() => term.0,
            _ = hangup.1.recv() => hangup.0,
        };
        Failure::Signal(signal)
    }
}

/// Runs a command that needs a builder. On a signal, it ends Nix and everything that Nix started, and removes the
/// temporary files.
pub(super) fn run<T>(
    args: &BuilderArgs,
    work: impl AsyncFnOnce(Arc<Builder>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let runtime = Runtime::new().map_err(|error| Failure::error(&error))?;
    let (builder, result) = runtime.block_on(async {
        let mut interrupts = Interrupts::new().map_err(|error| Failure::error(&error))?;
        let builder = tokio::select! {
            builder = args.builder() => builder?,
            signal = interrupts.next() => return Err(signal),
        };
        let result = tokio::select! {
            result = work(Arc::clone(&builder)) => result,
            signal = interrupts.next() => {
                eprintln!("firn: stopping Nix");
                builder.close();
                tokio::select! {
                    () = builder.nix().end_all() => {}
                    // A second signal: do not wait any longer.
                    _ = interrupts.next() => builder.nix().kill_all().await,
                }
                Err(signal)
            }
        };
        Ok((builder, result))
    })?;
    if matches!(result, Err(Failure::Signal(_))) {
        runtime.shutdown_timeout(GRACE);
        builder.remove_files();
    }
    result
}

/// Runs a command that has no builder. On a signal, it drops `work`, which ends the Nix processes that it started.
pub(super) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let mut interrupts = Interrupts::new().map_err(|error| Failure::error(&error))?;
    tokio::select! {
        result = work => Ok(result),
        signal = interrupts.next() => Err(signal),
    }
}
