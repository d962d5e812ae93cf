//! Checks whether Nix, the store and the package source work.

use super::{Finding, Level};
use crate::{
    binary_cache::CacheFailure,
    commands::{builder::BuilderArgs, caches, data_dir, layering_data},
    config::BuildPolicy,
    error_chain::chain,
    nix::{Nix, ResolveRequest},
    package_set::{PackageSet, RepositoryError, RevisionError, Trust},
    store::{Store, StoreError},
    waiting::{Audience, Client},
};
use firn_shared::{naming::package_source::Revision, oci::reference::Tag};
use std::collections::BTreeSet;
use std::path::Path;

const NIX: &str = "nix";
const CACHES: &str = "caches";
const STORAGE: &str = "storage";
const PACKAGES: &str = "packages";
const LAYERS: &str = "layers";

/// Checks everything. Returns one finding for each.
pub(super) async fn all(args: &BuilderArgs) -> Vec<Finding> {
    let data = match data_dir::make(&args.storage) {
        Ok(data) => data,
        Err(error) => return vec![Finding::new(Level::Invalid, "data", error.to_string())],
    };
    let (nix, nix_finding) = match args.nix(Vec::new()) {
        Ok(nix) => {
            let finding = probe_nix(&nix).await;
            (Some(nix), finding)
        }
        Err(error) => {
            let message = format!("cannot write {}: {error}; choose another FIRN_DATA", data.display());
            (None, Finding::new(Level::Error, NIX, message))
        }
    };
    let works = nix_finding.level == Level::Ok;
    let mut findings = vec![nix_finding];
    if let Some(nix) = nix.as_ref().filter(|_| works) {
        findings.extend(probe_caches(args, nix).await);
    }
    findings.push(probe_storage(args, &data).await);
    findings.push(probe_packages(args, &data, nix.filter(|_| works).as_ref()).await);
    if let Err(error) = layering_data::strategy(&args.image).await {
        findings.push(Finding::new(Level::Invalid, LAYERS, error.to_string()));
    }
    findings
}

async fn probe_nix(nix: &Nix) -> Finding {
    let version = match nix.version().await {
        Ok(version) => version,
        Err(error) => {
            return Finding::new(Level::Error, NIX, format!("{}; install Nix 2.8 or newer", chain(&error)));
        }
    };
    match nix.evaluates().await {
        Ok(true) => Finding::new(Level::Ok, NIX, format!("{version} evaluates")),
        Ok(false) => {
            Finding::new(Level::Error, NIX, format!("{version} evaluates 1 + 1 to something other than 2"))
        }
        Err(error) => {
            let hint = "as root without build users, set `build-users-group =` in nix.conf; as another user, \
                        start the Nix daemon";
            Finding::new(Level::Error, NIX, format!("{version} does not evaluate: {}; {hint}", chain(&error)))
        }
    }
}

async fn probe_caches(args: &BuilderArgs, nix: &Nix) -> Vec<Finding> {
    let configured = match caches::configured(&args.caches, nix).await {
        Ok(configured) => configured,
        Err(failure) => return vec![Finding::new(Level::Invalid, CACHES, failure.message())],
    };
    let never = args.caches.build == BuildPolicy::Never;
    if configured.caches.is_empty() {
        return vec![match never {
            true => {
                Finding::new(Level::Invalid, CACHES, "there are none, and nothing is built: set FIRN_CACHES")
            }
            false => Finding::new(Level::Ok, CACHES, "there are none; Nix builds everything"),
        }];
    }
    let keys =
        if configured.has_keys { "" } else { "; no key is trusted: set FIRN_CACHE_KEYS, or ?trusted=1" };
    let finding = |(name, answer): (String, Result<u32, CacheFailure>)| match answer {
        Ok(priority) => {
            Finding::new(Level::Ok, CACHES, format!("{name} answers, and has priority {priority}{keys}"))
        }
        Err(error) => Finding::new(
            Level::Warning,
            CACHES,
            format!("{name}: {}; check the URL in FIRN_CACHES", chain(&error)),
        ),
    };
    configured.caches.probe().await.into_iter().map(finding).collect()
}

async fn probe_storage(args: &BuilderArgs, data: &Path) -> Finding {
    let url = match args.storage.storage_url() {
        Ok(url) => url,
        Err(error) => return Finding::new(Level::Invalid, STORAGE, error.to_string()),
    };
    let store = match Store::open(&url, &data.join("staging")) {
        Ok(store) => store,
        Err(error @ StoreError::Url(_)) => {
            return Finding::new(Level::Invalid, STORAGE, format!("{error}; correct FIRN_STORAGE"));
        }
        Err(error @ StoreError::Bucket { .. }) => {
            let hint = "set the AWS_*, GOOGLE_* or AZURE_* variables of its provider";
            return Finding::new(Level::Invalid, STORAGE, format!("{}; {hint}", chain(&error)));
        }
        Err(error) => return Finding::new(Level::Error, STORAGE, chain(&error)),
    };
    match store.probe().await {
        Ok(()) => Finding::new(Level::Ok, STORAGE, "can be written, read and deleted from"),
        Err(error) => {
            let hint = "check that it exists, is not full, and that this user may write to it";
            Finding::new(Level::Error, STORAGE, format!("{}; {hint}", chain(&error)))
        }
    }
}

async fn probe_packages(args: &BuilderArgs, data: &Path, nix: Option<&Nix>) -> Finding {
    let (source, revisions) = match args.source() {
        Ok(source) => source,
        Err(error) => return Finding::new(Level::Invalid, PACKAGES, error.to_string()),
    };
    let channels = match args.source.channels() {
        Ok(channels) => channels,
        Err(error) => return Finding::new(Level::Invalid, PACKAGES, error.to_string()),
    };
    let Some(nix) = nix else {
        return Finding::new(Level::Error, PACKAGES, "not tried, because Nix does not work");
    };
    let packages = match PackageSet::new(source, revisions, data, args.source.fetch_limit()) {
        Ok(packages) => packages.with_archives(args.source.archive_hosts.clone()),
        Err(error) => {
            let message = format!("cannot write {}: {error}; choose another FIRN_DATA", data.display());
            return Finding::new(Level::Error, PACKAGES, message);
        }
    };
    let packages = match channels {
        Some(server) => packages.with_channels(server),
        None => packages,
    };
    let cannot_be_had = |error: RevisionError| {
        let hint = match &error {
            RevisionError::Path(_) => "check that this user may read it",
            RevisionError::Git(RepositoryError::TooLarge(_) | RepositoryError::Disk(_)) => {
                "check that FIRN_DATA has room for it"
            }
            RevisionError::Git(RepositoryError::Slow(_)) => "raise FIRN_FETCH_TIMEOUT",
            RevisionError::Git(_) => {
                "check the URL, and that `git ls-remote URL` works for this user without a prompt; FIRN_CHANNELS_URL says \
                 where channels are"
            }
            RevisionError::Queue(_) | RevisionError::Abandoned(_) => "try again",
            RevisionError::Select(_) => "correct what the tag latest means",
        };
        Finding::new(Level::Error, PACKAGES, format!("{}; {hint}", chain(&error)))
    };
    let revision = match packages.revision(&Tag::default(), Client::NOBODY).await {
        Ok(revision) => revision,
        Err(error) => return cannot_be_had(error),
    };
    let firn = Audience::of(Client::NOBODY);
    let files = match packages.files(&revision, Trust::Operator, &firn).await {
        Ok(files) => files,
        Err(error) => return cannot_be_had(error),
    };
    let id = match &revision {
        Revision::Git { rev, .. } | Revision::Flake { rev, .. } => format!("commit {}", rev.as_str()),
        Revision::Path { content } => format!("content {content}"),
    };
    let is_flake = files.is_flake();
    let request = ResolveRequest::new(files, args.platform(), args.nix.allow_unfree, BTreeSet::new());
    match nix.load(&request, nix.eval_timeout(), &firn).await {
        Ok(()) => Finding::new(Level::Ok, PACKAGES, format!("loads at {id}")),
        Err(error) => {
            let hint = match error.required_nix() {
                Some(version) => format!("it needs Nix {version} or newer: put that on the PATH"),
                None if is_flake => {
                    "it must be a flake with a lock file and with packages or legacyPackages for this system"
                        .into()
                }
                None => "it must be a function of { system, config } that returns an attribute set".into(),
            };
            Finding::new(Level::Error, PACKAGES, format!("does not load at {id}: {}; {hint}", chain(&error)))
        }
    }
}
