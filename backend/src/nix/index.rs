//! The names of a package set, and what its packages are: evaluations of `nix/index.nix`.

use super::{Nix, ProcessError, ResolveError, pieces::Pieces};
use crate::{
    package_set::Source,
    waiting::{Audience, Client},
};
use firn_shared::{naming::name_index::Names, nix::log::Spoken, oci::platform::Platform};
use serde::{Deserialize, Serialize};

/// What comes before the place that is looked at, on the standard error of an evaluation.
const LOOKS_AT: &str = "firn looks at ";

/// How many attributes are looked at in one evaluation, where all of them in one have failed.
const PIECE: usize = 100;

/// How many evaluations an answer may take. Sets that end evaluations are few.
const MAX_EVALUATIONS: usize = 40;

/// A package set whose names are asked for.
#[derive(Debug, Clone, Copy)]
pub struct NamesRequest<'a> {
    /// Where the package set is.
    pub source: &'a Source,
    /// For which platform.
    pub platform: Platform,
    /// Whether unfree packages are packages.
    pub allow_unfree: bool,
}

#[derive(Serialize)]
struct IndexRequest<'a> {
    source: &'a Source,
    system: &'static str,
    config: super::resolve::Config,
    look: Option<&'a [String]>,
    metadata: bool,
}

#[derive(Deserialize)]
struct IndexAnswer {
    #[serde(flatten)]
    names: Names,
    candidates: Vec<String>,
}

/// An evaluation that failed, and the place of the list that it looked at.
struct Stopped {
    error: ProcessError,
    at: Option<usize>,
}

impl Nix {
    /// The names of a package set: its own, and those in the sets that it holds, as far as these are told by their
    /// names. A set that takes the whole evaluation down with it is left out.
    ///
    /// # Errors
    /// When the package set itself cannot be loaded, or Nix cannot be run.
    pub async fn names(&self, request: NamesRequest<'_>) -> Result<Names, ResolveError> {
        match self.look(request, None, false).await? {
            Ok(answer) => return Ok(answer.names),
            Err(Stopped { error, .. }) => tracing::info!(error = %error, "names are listed in pieces"),
        }
        let top = self.look(request, Some(&[]), false).await?.map_err(|stopped| stopped.error)?;
        let mut names = top.names;
        names.merge(self.look_in_pieces(request, &top.candidates, PIECE, false).await?);
        Ok(names)
    }

    /// What these attributes of a package set are: packages, with what can be said of them, or sets of packages.
    /// Those that end every evaluation are left out.
    ///
    /// # Errors
    /// When the package set itself cannot be loaded, or Nix cannot be run.
    pub async fn survey(
        &self,
        request: NamesRequest<'_>,
        attributes: &[String],
    ) -> Result<Names, ResolveError> {
        self.look_in_pieces(request, attributes, attributes.len(), true).await
    }

    async fn look_in_pieces(
        &self,
        request: NamesRequest<'_>,
        attributes: &[String],
        size: usize,
        metadata: bool,
    ) -> Result<Names, ResolveError> {
        let mut names = Names::default();
        let mut pieces = Pieces::new(attributes.len(), size, MAX_EVALUATIONS);
        while let Some(piece) = pieces.next() {
            match self.look(request, Some(&attributes[piece.clone()]), metadata).await? {
                Ok(mut answer) => {
                    // Which is the same each time.
                    answer.names.names.remove("");
                    names.merge(answer.names);
                }
                Err(Stopped { error, at }) => {
                    tracing::debug!(error = %error, at, "attributes end an evaluation");
                    let at = at.map(|at| piece.start + at);
                    pieces.failed(piece, at);
                }
            }
        }
        let given_up: Vec<_> =
            pieces.given_up().into_iter().map(|place| attributes[place].as_str()).collect();
        if !given_up.is_empty() {
            tracing::info!(attributes = given_up.join(" "), "attributes that cannot be looked at");
        }
        Ok(names)
    }

    /// One evaluation, which may fail because of what it looks at. One that collects metadata gives way to others.
    async fn look(
        &self,
        request: NamesRequest<'_>,
        look: Option<&[String]>,
        metadata: bool,
    ) -> Result<Result<IndexAnswer, Stopped>, ResolveError> {
        let NamesRequest { source, platform, allow_unfree } = request;
        let config = super::resolve::config(allow_unfree);
        let request = IndexRequest { source, system: platform.system(), config, look, metadata };
        let mut at = None;
        let line = |line: &str| {
            if let Some(Spoken::Trace(text)) = Spoken::of(line) {
                at = text.strip_prefix(LOOKS_AT).and_then(|place| place.parse().ok()).or(at);
            }
        };
        let file = self.expressions.index();
        let _turn = self.evaluations.take(&Audience::of(Client::NOBODY)).await?;
        let answer =
            self.evaluate_file(file, source, &request, (self.limits.eval_time, metadata), line).await;
        match answer {
            Ok(answer) => Ok(Ok(serde_json::from_slice(&answer).map_err(ResolveError::Answer)?)),
            Err(error @ (ProcessError::Failed { .. } | ProcessError::Timeout { .. })) => {
                Ok(Err(Stopped { error, at }))
            }
            Err(error) => Err(error.into()),
        }
    }
}
