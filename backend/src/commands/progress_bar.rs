//! Where a build stands, for the person at the terminal: a line that changes, or one line a change where standard error
//! is no terminal. Nothing of it goes to standard output.

use crate::waiting::{Phase, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

/// How often a line may be printed where there is no terminal.
const LINES: Duration = Duration::from_secs(1);
/// How often the time that has passed is shown.
const TICK: Duration = Duration::from_millis(200);

/// The bar that is shown, which must make way for lines of the log.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Says where a build stands until it has ended. Dropped, it leaves nothing on the terminal.
#[derive(Debug)]
pub(super) struct Shown {
    /// None where standard error is no terminal.
    bar: Option<ProgressBar>,
    said: String,
}

impl Shown {
    /// Begins by saying what is done before there is a build.
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

    /// Follows a build; never returns, so that whoever waits for the build drops this.
    pub(super) async fn follow(&mut self, progress: &Progress) {
        let mut changes = progress.watch();
        loop {
            self.show(progress);
            let is_over = changes.changed().await.is_err();
            if is_over || progress.has_ended() {
                std::future::pending::<()>().await;
            }
            if self.bar.is_none() {
                tokio::time::sleep(LINES).await;
            }
        }
    }

    fn show(&mut self, progress: &Progress) {
        let page = progress.page();
        if let (Some(bar), Phase::Packing { done, total }) = (&self.bar, &page.phase) {
            bar.set_style(style("{spinner} [{bar:30}] {msg} ({elapsed})"));
            bar.set_length(*total as u64);
            bar.set_position(*done as u64);
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

/// Standard error for the log, whose lines stand above the bar.
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
