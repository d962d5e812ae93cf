//! The index of a package set's names. It is made the first time a client asks for a name that does not exist.

use super::{PackageError, Packages};
use crate::{
    error_chain::chain,
    nix::NamesRequest,
    package_set::Trust,
    store::{RecordKind, names_key},
    waiting::{Audience, Client, Flight},
};
use firn_shared::{
    cache_key::CacheKey,
    image::selection::SelectionError,
    naming::{
        name_index::{NameIndex, Names},
        package_source::Revision,
    },
    oci::platform::Platform,
};
use std::sync::Arc;
use std::time::Duration;

/// How long an answer about an unknown name waits for the index. After that the answer has only the resolver's own
/// candidates, which are the names beside the one that was not found; the index is still made.
const PATIENCE: Duration = Duration::from_secs(5);

/// An index, or none where the package set cannot be listed; the log says why.
pub type IndexOutcome = Option<Arc<NameIndex>>;

impl Packages {
    /// The index of a package set at a revision: remembered, read from the store, or made now.
    pub fn names(self: &Arc<Self>, revision: &Revision, platform: Platform) -> Flight<IndexOutcome> {
        let key = names_key(revision, platform, self.allow_unfree);
        let trust = self.set.trust(revision);
        let failure_key = trust.failure_key(key);
        let (packages, revision) = (Arc::clone(self), revision.clone());
        self.index_flights.join(failure_key, || async move {
            let known = packages.indexes.get(&key).or_else(|| packages.indexes.get(&failure_key));
            if let Some(known) = known {
                return known;
            }
            let index = packages.index(&key, &revision, trust, platform).await.map(Arc::new);
            // A failure is remembered too: every misspelt name would ask for the index again.
            let key = if index.is_some() { key } else { failure_key };
            packages.indexes.insert(key, index.clone());
            index
        })
    }

    async fn index(
        self: &Arc<Self>,
        key: &CacheKey,
        revision: &Revision,
        trust: Trust,
        platform: Platform,
    ) -> Option<NameIndex> {
        let failed = |error: &dyn std::error::Error| {
            tracing::warn!(error = %chain(error), "no index of names");
        };
        match self.store.record::<Names>(RecordKind::Names, key).await {
            Ok(Some(names)) => {
                let index = NameIndex::new(&names);
                self.survey(*key, names, revision, platform);
                return Some(index);
            }
            Ok(None) => {}
            Err(error) => failed(&error),
        }
        let started = std::time::Instant::now();
        let source = self.set.files(revision, trust, &Audience::of(Client::NOBODY)).await;
        let source = source.inspect_err(|error| failed(error)).ok()?;
        let allow_unfree = self.allow_unfree;
        let names = self.nix.names(NamesRequest { source: &source, platform, allow_unfree }).await;
        let names = names.inspect_err(|error| failed(error)).ok()?;
        let index = NameIndex::new(&names);
        tracing::info!(names = index.len(), duration_ms = started.elapsed().as_millis(), "names listed");
        // A path is evaluated where it is. If it changed meanwhile, these are the names of no revision.
        match self.set.is_current(revision).await {
            Ok(true) => {
                let _ =
                    self.store.put_record(RecordKind::Names, key, &names).await.inspect_err(|e| failed(e));
            }
            Ok(false) => return None,
            Err(error) => failed(&error),
        }
        self.survey(*key, names, revision, platform);
        Some(index)
    }

    /// The error for these problems, with suggestions from the whole package set for names that it does not have. If the
    /// index takes too long, the error is [`PackageError::Unsuggested`].
    pub(crate) async fn suggest(
        self: &Arc<Self>,
        mut error: SelectionError,
        revision: &Revision,
        platform: Platform,
    ) -> PackageError {
        if !error.0.iter().any(|(_, problem)| problem.is_unclear()) {
            return error.into();
        }
        match tokio::time::timeout(PATIENCE, self.names(revision, platform)).await {
            Ok(Some(index)) => {
                for (name, problem) in &mut error.0 {
                    problem.consult(&index, name);
                }
                error.into()
            }
            Ok(None) => error.into(),
            Err(_) => PackageError::Unsuggested(error),
        }
    }
}
