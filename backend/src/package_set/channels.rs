//! Which commit a channel of nixpkgs is at, as the server of the channels says.
//!
//! `<server>/<channel>/git-revision` is redirected to that file of the newest release, which holds its commit. So one
//! request names a release and its commit, whatever moves meanwhile.

use super::RepositoryError;
use firn_shared::naming::{package_source::Commit, source_url::SourceUrl};
use reqwest::StatusCode;
use std::sync::Mutex;
use std::time::Duration;

/// The Nix project's own server.
pub(super) const OFFICIAL: &str = "https://channels.nixos.org";

/// How long the server may take to answer. Less than a request waits for its build.
const LIMIT: Duration = Duration::from_secs(15);

/// The longest answer, in bytes: a commit, and some space after it.
const MAX_ANSWER: usize = 100;

/// How the channels' names begin. Other branches of nixpkgs are none.
const PREFIXES: [&str; 2] = ["nixos-", "nixpkgs-"];

/// A server of channels.
#[derive(Debug)]
pub(super) struct Channels {
    url: SourceUrl,
    /// The release that was named last.
    last: Mutex<Option<String>>,
}

impl Channels {
    /// The server at this URL.
    pub(super) fn new(url: SourceUrl) -> Self {
        Self { url, last: Mutex::default() }
    }

    /// Whether this may be a channel.
    pub(super) fn may_have(name: &str) -> bool {
        PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    }

    /// The commit that a channel is at; nothing if there is no such channel.
    ///
    /// # Errors
    /// When the server does not say.
    pub(super) async fn commit(&self, name: &str) -> Result<Option<Commit>, RepositoryError> {
        self.ask(name).await.map_err(|error| {
            let text =
                format!("{} does not say where {name} is: {}", self.url, crate::error_chain::chain(&*error));
            RepositoryError::Unreachable(self.url.redact(&text))
        })
    }

    async fn ask(&self, name: &str) -> Result<Option<Commit>, Box<dyn std::error::Error + Send + Sync>> {
        let base = self.url.with_credentials().trim_end_matches('/');
        let client = reqwest::Client::builder().timeout(LIMIT).https_only(base.starts_with("https://"));
        let mut response = client.build()?.get(format!("{base}/{name}/git-revision")).send().await?;
        // Buckets say 403 of what they do not have.
        if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE) {
            return Ok(None);
        }
        response = response.error_for_status()?;
        let mut answer = Vec::new();
        while let Some(bytes) = response.chunk().await? {
            answer.extend_from_slice(&bytes);
            if answer.len() > MAX_ANSWER {
                return Err("it answers with something else than a commit".into());
            }
        }
        let commit: Commit = String::from_utf8_lossy(&answer).trim().parse()?;
        let segments = response.url().path_segments().into_iter().flatten();
        let release = segments.rev().nth(1).unwrap_or(name).to_owned();
        let mut last = self.last.lock().expect("nothing panics while holding the lock");
        if last.as_ref() != Some(&release) {
            tracing::info!(channel = name, release, commit = commit.as_str(), "channel looked up");
            *last = Some(release);
        }
        Ok(Some(commit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        package_set::{PackageSet, RevisionError},
        waiting::Client,
    };
    use firn_shared::naming::package_source::{PackageSource, Revision, Revisions};
    use firn_tests::web;
    use tempfile::TempDir;

    const COMMITS: [&str; 2] =
        ["0123456789012345678901234567890123456789", "abcdef0123abcdef0123abcdef0123abcdef0123"];

    fn channels(url: &str) -> Channels {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Channels::new(url.into())
    }

    #[tokio::test]
    async fn a_channel_is_at_the_commit_of_its_release() {
        let server = web::Channels::start();
        let channels = channels(&format!("{}/", server.url()));
        for commit in COMMITS {
            server.publish("nixos-24.05", commit);
            let found = channels.commit("nixos-24.05").await.expect("it answers").expect("it is there");
            assert_eq!(found.as_str(), commit);
            let release = format!("nixos-24.05.{commit}");
            assert_eq!(channels.last.lock().expect("nobody panicked").as_ref(), Some(&release));
        }
        assert_eq!(channels.commit("nixos-0.1").await.expect("it answers"), None);
        server.fail(Some("403 Forbidden"));
        assert_eq!(channels.commit("nixos-24.05").await.expect("it answers"), None);
        for (status, says) in [("500 Internal Server Error", "500"), ("200 OK", "neither a 40-digit commit")]
        {
            server.fail(Some(status));
            let error = channels.commit("nixos-24.05").await.expect_err("it is no answer").to_string();
            assert!(error.contains(says) && error.contains("cannot be reached"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_channels_is_said_without_secrets() {
        let (url, _requests) = web::serve("x".repeat(5000));
        let error = channels(&url).commit("nixos-24.05").await.expect_err("too long").to_string();
        assert!(error.contains("something else than a commit"), "{error}");
        let url = "http://me:s3cret@127.0.0.1:1/channels";
        let error = channels(url).commit("nixos-24.05").await.expect_err("nobody listens").to_string();
        assert!(!error.contains("s3cret") && error.contains("127.0.0.1:1"), "{error}");
    }

    /// As many as ask, the server is asked once; and what it said counts while it is down.
    #[tokio::test]
    async fn is_asked_once_for_all_and_may_fail_later() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = web::Channels::start();
        server.publish("nixos-24.05", COMMITS[0]);
        let dir = TempDir::new().expect("a directory");
        let set = |revisions| {
            let source = PackageSource::Channel("nixos-24.05".parse().expect("a version"));
            let set = PackageSet::new(source, revisions, dir.path(), LIMIT).expect("it can be written");
            set.with_channels(server.url().into())
        };
        let packages = set(Revisions::Any);
        let latest = "latest".parse().expect("a tag");
        let ask = || packages.revision(&latest, Client::NOBODY);
        for revision in futures::future::join_all((0..20).map(|_| ask())).await {
            let Ok(Revision::Git { url, rev }) = revision else { panic!("no commit") };
            assert_eq!((url.as_str(), rev.as_str()), ("https://github.com/NixOS/nixpkgs", COMMITS[0]));
        }
        assert_eq!(server.named(), 1);
        server.fail(Some("500 Internal Server Error"));
        assert!(ask().await.is_ok());
        // A tag that callers choose may be a channel too. It has not been seen.
        let tag = "nixos-23.11".parse().expect("a tag");
        let error = packages.revision(&tag, Client::NOBODY).await.expect_err("the server is down");
        assert!(matches!(error, RevisionError::Git(RepositoryError::Unreachable(_))), "{error}");
        server.fail(None);
        server.publish("nixos-23.11", COMMITS[1]);
        let found = set(Revisions::Refs).revision(&tag, Client::NOBODY).await.expect("it is there");
        assert_eq!(found.id(), COMMITS[1]);
    }
}
