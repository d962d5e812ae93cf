//! Finds the commit of a branch or tag, by `git ls-remote`.

use super::{RepositoryError, git::Git};
use firn_shared::naming::{package_source::Commit, source_url::SourceUrl};
use std::time::Duration;

/// Timeout of the repository's answer. It must be shorter than the time that a request waits for its build.
const LIMIT: Duration = Duration::from_secs(15);

/// The commit of a ref, or why there is none.
pub(super) type Found = Result<Commit, RepositoryError>;

/// Asks the repository. For a tag object, returns its commit.
pub(super) async fn ls_remote(url: &SourceUrl, name: Option<&str>) -> Found {
    let patterns = match name {
        None => vec!["HEAD".to_owned()],
        Some(name) => {
            vec![format!("refs/heads/{name}"), format!("refs/tags/{name}^{{}}"), format!("refs/tags/{name}")]
        }
    };
    tracing::debug!(name, "git ls-remote");
    let git = Git::new(url, LIMIT);
    let arguments = ["ls-remote", "--", git.remote()].into_iter().chain(patterns.iter().map(String::as_str));
    let stdout = git.run(arguments).await.map_err(|error| RepositoryError::Unreachable(error.to_string()))?;
    let listed: Vec<(&str, &str)> = stdout.lines().filter_map(|line| line.split_once('\t')).collect();
    // Patterns in order: a branch before a tag of the same name, and a tag's commit before the tag object.
    let found = patterns.iter().find_map(|pattern| listed.iter().find(|(_, listed)| listed == pattern));
    let (commit, _) = found.ok_or_else(|| RepositoryError::NoSuchRef(name.unwrap_or("HEAD").to_owned()))?;
    commit.parse().map_err(|_| RepositoryError::Unreachable(format!("it answered {commit:?}")))
}
