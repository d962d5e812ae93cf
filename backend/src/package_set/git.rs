//! Runs git with the operator's settings, and with a time limit.
//!
//! Private repositories work as at the operator's prompt: git gets the variables that configure it, so `~/.netrc`,
//! credential helpers, `~/.ssh` and SSH agents work. Only git gets these variables. Nix does not need them, because
//! it gets the fetched files as a directory. Any user of the machine can see the arguments of a process. So
//! credentials in the repository's URL are passed to git as a setting in its environment, and removed from everything
//! that it prints.

use crate::process::{ProcessGroup, child_environment};
use firn_shared::naming::source_url::SourceUrl;
use std::ffi::OsStr;
use std::future::Future;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Settings that must be the same on every machine: git runs no other programs, and a commit's files have the same
/// bytes everywhere.
const SETTINGS: [(&str, &str); 8] = [
    ("core.attributesFile", "/dev/null"),
    ("core.autocrlf", "false"),
    ("core.eol", "lf"),
    ("core.hooksPath", "/dev/null"),
    ("gc.auto", "0"),
    ("log.showSignature", "false"),
    ("maintenance.auto", "false"),
    ("tar.umask", "0022"),
];

/// Why git failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum GitError {
    /// Git cannot be started.
    #[error("cannot run git: {0}")]
    Io(#[from] std::io::Error),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Git failed with this message, from which credentials were removed.
    #[error("{0}")]
    Failed(String),
}

/// Git for one repository.
#[derive(Debug)]
pub(super) struct Git<'a> {
    url: &'a SourceUrl,
    limit: Duration,
}

impl<'a> Git<'a> {
    /// Git for the repository at this URL. `limit` is the timeout of each command.
    pub(super) fn new(url: &'a SourceUrl, limit: Duration) -> Self {
        Self { url, limit }
    }

    /// The repository's URL without credentials, for use in commands.
    pub(super) fn remote(&self) -> &'a str {
        self.url.public().as_str()
    }

    /// Runs a command and returns its standard output.
    ///
    /// # Errors
    /// If it does not start, fails or takes too long.
    pub(super) async fn run<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String, GitError> {
        self.run_unless(arguments, std::future::pending::<std::convert::Infallible>()).await.map_err(
            |error| match error {
                Interrupted::Git(error) => error,
                Interrupted::By(never) => match never {},
            },
        )
    }

    /// Like [`Self::run`], but ends the command if `other` completes first.
    pub(super) async fn run_unless<S: AsRef<OsStr>, T>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        other: impl Future<Output = T>,
    ) -> Result<String, Interrupted<T>> {
        let mut command = Command::new("git");
        command.env_clear().envs(child_environment::for_git());
        let insteads = self
            .url
            .has_credentials()
            .then(|| (format!("url.{}.insteadOf", self.url.with_credentials()), self.remote().to_owned()));
        let settings = SETTINGS.map(|(key, value)| (key.to_owned(), value.to_owned()));
        // The operator may have set some of these variables too.
        let before = std::env::var("GIT_CONFIG_COUNT").ok().and_then(|count| count.parse().ok());
        let mut count: usize = before.unwrap_or(0);
        for (key, value) in settings.into_iter().chain(insteads) {
            command.env(format!("GIT_CONFIG_KEY_{count}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        command
            .args(arguments)
            .env("GIT_CONFIG_COUNT", count.to_string())
            .env("GIT_ATTR_NOSYSTEM", "1")
            // No person is there to answer a prompt. ssh would ask at the terminal; this makes it run a program
            // instead.
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("SSH_ASKPASS", std::env::var_os("SSH_ASKPASS").unwrap_or_else(|| "false".into()))
            // Its messages are compared with English words.
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (child, mut group) = ProcessGroup::spawn(&mut command).map_err(GitError::Io)?;
        let output = tokio::select! {
            output = tokio::time::timeout(self.limit, child.wait_with_output()) => {
                output.map_err(|_| GitError::Timeout(self.limit))?.map_err(GitError::Io)?
            }
            other = other => return Err(Interrupted::By(other)),
        };
        group.forget();
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(GitError::Failed(self.url.redact(stderr.trim())).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Why [`Git::run_unless`] returned no output.
pub(super) enum Interrupted<T> {
    /// Git failed.
    Git(GitError),
    /// The other future completed first.
    By(T),
}

impl<T> From<GitError> for Interrupted<T> {
    fn from(error: GitError) -> Self {
        Self::Git(error)
    }
}
