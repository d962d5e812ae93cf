//! The names of a package set, and what its packages are, from evaluations of `nix/index.nix`.

use super::{Nix, ProcessError, ResolveError, clock::Clock, pieces::Pieces, resolve::Evaluation};
use crate::{
    package_set::PackageSetFiles,
    waiting::{Audience, Client},
};
use firn_shared::{naming::name_index::Names, nix::log::Spoken, oci::platform::Platform};
use serde::{Deserialize, Serialize};

/// The text before the position in the list, on the standard error of an evaluation.
const LOOKS_AT: &str = "firn looks at ";

/// How many attributes one evaluation reads, after an evaluation of all of them has failed.
const PIECE: usize = 100;

/// How many evaluations one listing may take. Few attributes make an evaluation fail.
const MAX_EVALUATIONS: usize = 40;

/// What names to list.
#[derive(Debug, Clone, Copy)]
pub struct NamesRequest<'a> {
    /// The package set.
    pub source: &'a PackageSetFiles,
    /// The platform.
    pub platform: Platform,
    /// Whether unfree packages are included.
    pub allow_unfree: bool,
}

#[derive(Serialize)]
struct IndexRequest<'a> {
    source: &'a PackageSetFiles,
    system: &'static str,
    config: super::resolve::NixpkgsConfig,
    look: Option<&'a [String]>,
    metadata: bool,
}

#[derive(Deserialize)]
struct IndexAnswer {
    #[serde(flatten)]
    names: Names,
    candidates: Vec<String>,
}

/// A failed evaluation, and the position in the list at which it failed.
struct Stopped {
    error: ProcessError,
    at: Option<usize>,
}

impl Nix {
    /// The names of a package set: its own, and those in its nested sets as far as their names show that they hold
    /// packages. A set that makes every evaluation fail is left out.
    ///
    /// # Errors
    /// If the package set itself cannot be loaded, or Nix cannot be run.
    pub async fn names(&self, request: NamesRequest<'_>) -> Result<Names, ResolveError> {
        match self.look(request, None, false).await? {
            Ok(answer) => return Ok(answer.names),
            Err(Stopped { error, .. }) => {
                tracing::info!(error = %error, "cannot list all names at once; listing them in pieces")
            }
        }
        let top = self.look(request, Some(&[]), false).await?.map_err(|stopped| stopped.error)?;
        let mut names = top.names;
        names.merge(self.look_in_pieces(request, &top.candidates, PIECE, false).await?);
        Ok(names)
    }

    /// What these attributes of a package set are: packages, with their metadata, or sets of packages. Attributes
    /// that make every evaluation fail are left out.
    ///
    /// # Errors
    /// If the package set itself cannot be loaded, or Nix cannot be run.
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
                    // This entry is the same for every piece.
                    answer.names.names.remove("");
                    names.merge(answer.names);
                }
                Err(Stopped { error, at }) => {
                    tracing::debug!(error = %error, at, "attributes make an evaluation fail");
                    let at = at.map(|at| piece.start + at);
                    pieces.failed(piece, at);
                }
            }
        }
        let given_up: Vec<_> =
            pieces.given_up().into_iter().map(|place| attributes[place].as_str()).collect();
        if !given_up.is_empty() {
            tracing::info!(attributes = given_up.join(" "), "attributes that cannot be evaluated");
        }
        Ok(names)
    }

    /// Runs one evaluation, which may fail because of an attribute. An evaluation that collects metadata runs at low
    /// priority.
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
        let clock = Clock::start(self.limits.eval_time, self.limits.download_time);
        let run = Evaluation { clock: &clock, gives_way: metadata, writes: true };
        let answer = self.evaluate_file(file, source, &request, run, line).await;
        match answer {
            Ok(answer) => Ok(Ok(serde_json::from_slice(&answer).map_err(ResolveError::Answer)?)),
            Err(error @ (ProcessError::Failed { .. } | ProcessError::Timeout { .. })) => {
                Ok(Err(Stopped { error, at }))
            }
            Err(error) => Err(error.into()),
        }
    }
}
