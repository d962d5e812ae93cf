//! Which commit a branch or tag of a repository is at, by `git ls-remote`.

use firn_shared::package_source::Commit;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long a repository may take to answer.
const LIMIT: Duration = Duration::from_secs(30);

/// Why a ref has no commit.
#[derive(Debug, thiserror::Error)]
pub enum GitRefError {
    /// The repository has no such branch or tag.
    #[error("the package repository has no branch or tag {0:?}")]
    NotFound(String),
    /// The repository cannot be asked; the text says why, for the log.
    #[error("the package repository cannot be reached: {0}")]
    Unreachable(String),
}

/// The commit that a branch or tag is at; without a name, the default branch. A tag object is followed to its
/// commit.
pub(super) async fn commit_of(url: &str, name: Option<&str>) -> Result<Commit, GitRefError> {
    let patterns = match name {
        None => vec!["HEAD".to_owned()],
        Some(name) => {
            vec![format!("refs/heads/{name}"), format!("refs/tags/{name}^{{}}"), format!("refs/tags/{name}")]
        }
    };
    let output = Command::new("git")
        .args(["ls-remote", "--", url])
        .args(&patterns)
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, output)
        .await
        .map_err(|_| GitRefError::Unreachable(format!("no answer within {} s", LIMIT.as_secs())))?
        .map_err(|error| GitRefError::Unreachable(format!("cannot run git: {error}")))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(GitRefError::Unreachable(stderr.trim().to_owned()));
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let listed: Vec<(&str, &str)> = stdout.lines().filter_map(|line| line.split_once('\t')).collect();
    // A branch before a tag of the same name, a tag's commit before the tag object.
    let found = patterns.iter().find_map(|pattern| listed.iter().find(|(_, listed)| listed == pattern));
    let (commit, _) = found.ok_or_else(|| GitRefError::NotFound(name.unwrap_or("HEAD").to_owned()))?;
    commit.parse().map_err(|_| GitRefError::Unreachable(format!("it answered {commit:?}")))
}
