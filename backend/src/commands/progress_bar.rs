//! Shows the progress of a build to the person at the terminal: as a line that changes, or one line per change if
//! standard error is not a terminal. It writes nothing to standard output.

use crate::waiting::{Phase, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

/// Shortest time between two lines if there is no terminal.
const LINES: Duration = Duration::from_secs(1);
/// How often the elapsed time is updated.
const TICK: Duration = Duration::from_millis(200);

/// The bar on the terminal. Lines of the log must be printed above it.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Shows the progress of a build until it is dropped. It then leaves nothing on the terminal.
#[derive(Debug)]
pub(super) struct Shown {
    /// None if standard error is not a terminal.
    bar: Option<ProgressBar>,
    said: String,
}

impl Shown {
    /// Shows `first` until there is a build to follow.
    pub(super) fn new(first: &str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1).with_style(style("{spinner} {msg} ({elapsed})"));
            bar.enable_steady_tick(TICK);
            bar
        });
        *SHOWN.lock().expect("nothing panics while holding the lock") = bar.clone();
        let mut shown = Self { bar, said: String::new() };
        shown.say(first);
        shown
    }

    /// Follows a build. Never returns: drop it when the build has ended.
    pub(super) async fn follow(&mut self, progress: &Progress) {
        let mut changes = progress.watch();
        loop {
            self.show(progress);
            // The number of bytes changes without notice.
            let changed = tokio::time::timeout(LINES, changes.changed()).await;
            if matches!(changed, Ok(Err(_))) || progress.has_ended() {
                std::future::pending::<()>().await;
            }
            if self.bar.is_none() {
                tokio::time::sleep(LINES).await;
            }
        }
    }

    fn show(&mut self, progress: &Progress) {
        let page = progress.page();
        let share = match page.phase {
            Phase::Packing { done, total } => Some((done as u64, total as u64)),
            Phase::Fetching { done_bytes, total_bytes, .. } => Some((done_bytes, total_bytes)),
            _ => None,
        };
        if let (Some(bar), Some((done, total))) = (&self.bar, share) {
            bar.set_style(style("{spinner} [{bar:30}] {msg} ({elapsed})"));
            bar.set_length(total);
            bar.set_position(done);
        }
        self.say(&page.summary);
    }

    fn say(&mut self, text: &str) {
        if self.said == text {
            return;
        }
        text.clone_into(&mut self.said);
        match &self.bar {
            Some(bar) => bar.set_message(self.said.clone()),
            None => eprintln!("firn: {text}"),
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        *SHOWN.lock().expect("nothing panics while holding the lock") = None;
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a constant template")
}

/// Standard error for the log. Its lines are printed above the bar.
#[derive(Debug, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let shown = SHOWN.lock().expect("nothing panics while holding the lock").clone();
        match shown {
            Some(bar) => bar.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
