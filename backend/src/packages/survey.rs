//! Learning in the background what a package set holds: the programs, versions and descriptions of its packages,
//! and which attributes are sets of packages though their names do not say so.
//!
//! For all of nixpkgs that takes minutes (`docs/decisions/names.md`), so only servers do it, and only after a client
//! has asked for a name that is not there. Each piece of the set is one evaluation, with the bounds of any other. It
//! has a low priority, and begins only while no request is being evaluated. The server stores each piece at once: a
//! server that starts again goes on where the last one stopped.

use super::Packages;
use crate::{
    error_chain::chain,
    nix::{NamesRequest, ResolveError},
    package_set::{RevisionError, Trust},
    store::{RecordKind, StoreError, survey_key},
    waiting::{Audience, Client},
};
use firn_shared::{
    cache_key::CacheKey,
    naming::{
        name_index::{NameIndex, Names},
        package_source::Revision,
    },
    oci::platform::Platform,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// How many attributes one evaluation looks at. For nixpkgs of July 2026 one took at most 7.2 s of CPU time and 903 MB.
const PIECE: usize = 500;

/// Why a survey ended early. It goes on when the names are needed again.
#[derive(Debug, thiserror::Error)]
enum SurveyError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Revision(#[from] RevisionError),
    #[error("the package set has changed meanwhile")]
    Changed,
    #[error("the server is ending")]
    Closed,
}

impl Packages {
    /// Allows to collect in the background what packages are.
    pub(crate) fn allow_surveys(&self) {
        self.surveys_allowed.store(true, Ordering::Relaxed);
    }

    /// Begins no further evaluation for a survey, because the server is ending.
    pub(crate) fn end_surveys(&self) {
        self.surveys_allowed.store(false, Ordering::Relaxed);
    }

    /// Begins to collect what is not known yet of these names, if the operator chose the revision. For revisions that
    /// callers choose it would take the server minutes each time. There is one survey at a time. No survey waits, because
    /// each holds the names of a whole package set: a later request for the index begins it.
    pub(super) fn survey(
        self: &Arc<Self>,
        key: CacheKey,
        names: Names,
        revision: &Revision,
        platform: Platform,
    ) {
        let is_wanted =
            self.surveys_allowed.load(Ordering::Relaxed) && self.set.trust(revision) == Trust::Operator;
        if names.surveyed || !is_wanted {
            return;
        }
        let Ok(surveying) = Arc::clone(&self.surveying).try_lock_owned() else { return };
        let (packages, revision) = (Arc::clone(self), revision.clone());
        tokio::spawn(async move {
            let _surveying = surveying;
            let started = Instant::now();
            match packages.try_survey(key, names, &revision, platform).await {
                Ok(count) => {
                    tracing::info!(
                        revision = revision.id(),
                        packages = count,
                        duration_ms = started.elapsed().as_millis(),
                        "packages surveyed"
                    );
                }
                Err(error) => tracing::info!(error = %chain(&error), "survey of packages interrupted"),
            }
        });
    }

    /// Returns how many packages there are among the set's own attributes.
    async fn try_survey(
        &self,
        key: CacheKey,
        mut names: Names,
        revision: &Revision,
        platform: Platform,
    ) -> Result<usize, SurveyError> {
        let source = self.set.files(revision, Trust::Operator, &Audience::of(Client::NOBODY)).await?;
        let request = NamesRequest { source: &source, platform, allow_unfree: self.allow_unfree };
        let attributes = names.names.get("").cloned().unwrap_or_default();
        let mut pieces = Vec::new();
        for (number, attributes) in attributes.chunks(PIECE).enumerate() {
            let piece_key = survey_key(&key, number);
            let piece = match self.store.record::<Names>(RecordKind::Names, &piece_key).await? {
                Some(piece) => piece,
                None => {
                    self.nix.quiet().await;
                    if !self.surveys_allowed.load(Ordering::Relaxed) {
                        return Err(SurveyError::Closed);
                    }
                    let piece = self.nix.survey(request, attributes).await?;
                    if !self.set.is_current(revision).await? {
                        return Err(SurveyError::Changed);
                    }
                    self.store.put_record(RecordKind::Names, &piece_key, &piece).await?;
                    tracing::debug!(number, packages = piece.packages.len(), "piece surveyed");
                    piece
                }
            };
            names.merge(piece);
            pieces.push(piece_key);
        }
        names.surveyed = true;
        self.store.put_record(RecordKind::Names, &key, &names).await?;
        self.indexes.insert(key, Some(Arc::new(NameIndex::new(&names))));
        for piece in pieces {
            self.store.remove_record(RecordKind::Names, &piece).await?;
        }
        Ok(names.packages.len())
    }
}
