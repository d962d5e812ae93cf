//! Resolving names: one evaluation of `nix/resolve.nix` for all of them.

use super::{Bounds, Memory, Nix, ProcessError};
use crate::{package_set::Source, turns::Client};
use firn_shared::{
    package::{PackageProblem, ProblemKind, Resolution, Resolutions},
    package_name::PackageName,
    platform::Platform,
    reason::{Reason, is_import_from_derivation},
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a client is told of a package whose evaluation fails.
const FAILS_TO_EVALUATE: &str = "its expression in the package set fails to evaluate";
/// What it is told where that is for a reason of Firn's own.
const IMPORTS_FROM_DERIVATION: &str = "something has to be built before it can be evaluated (import from derivation), \
                                       which is off in this registry";

/// nixpkgs' `config`, as far as Firn sets it.
pub(super) type Config = BTreeMap<&'static str, bool>;

pub(super) fn config(allow_unfree: bool) -> Config {
    BTreeMap::from([("allowUnfree", allow_unfree)])
}

/// A package set at a revision, in the form that `nix/load-pkgs.nix` takes, with what is asked of it.
#[derive(Debug, Clone, Serialize)]
pub struct ResolveRequest {
    /// Where the package set is.
    pub source: Source,
    /// Nix's name of the platform.
    pub system: &'static str,
    /// nixpkgs' `config`.
    pub config: Config,
    /// The names.
    pub attributes: BTreeSet<PackageName>,
    /// Let the evaluation fail with what an expression throws, instead of reporting that it does.
    explain: bool,
    /// For whom it is evaluated.
    #[serde(skip)]
    client: Client,
}

/// Why names could not be resolved at all, as opposed to names that resolve to a problem.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The evaluation gave no answer.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The answer is not what `nix/resolve.nix` prints.
    #[error("the resolver's answer makes no sense")]
    Answer(#[source] serde_json::Error),
}

impl ResolveRequest {
    /// A request for these names, on nobody's behalf.
    pub fn new(
        source: Source,
        platform: Platform,
        allow_unfree: bool,
        attributes: BTreeSet<PackageName>,
    ) -> Self {
        let (system, config) = (platform.system(), config(allow_unfree));
        Self { source, system, config, attributes, explain: false, client: Client::NOBODY }
    }

    /// The same for a client, who takes turns with others.
    pub fn on_behalf_of(self, client: Client) -> Self {
        Self { client, ..self }
    }
}

impl Nix {
    /// Resolves names to derivations, which exist in the store afterwards.
    ///
    /// Some failures end a whole evaluation (a missing attribute, `abort`, endless recursion). Then each name
    /// is evaluated by itself, so that a broken one spoils no other.
    ///
    /// # Errors
    /// When the package set itself cannot be loaded, or Nix cannot be run.
    pub async fn resolve(&self, request: &ResolveRequest) -> Result<Resolutions, ResolveError> {
        let mut resolutions = match self.evaluate(request).await {
            Err(error) if error.is_about_a_package() => self.resolve_one_by_one(request).await?,
            together => together?,
        };
        for (name, resolution) in &mut resolutions.packages {
            if let Resolution::Problem(problem) = resolution
                && problem.kind == ProblemKind::EvalError
                && let Some(explained) = self.explain(request, name).await
            {
                *problem = explained;
            }
        }
        Ok(resolutions)
    }

    async fn resolve_one_by_one(&self, request: &ResolveRequest) -> Result<Resolutions, ResolveError> {
        // Whether the package set loads at all is asked with no name: if not, no name is to blame.
        let mut all =
            self.evaluate(&ResolveRequest { attributes: BTreeSet::new(), ..request.clone() }).await?;
        for name in &request.attributes {
            let alone = ResolveRequest { attributes: [name.clone()].into(), ..request.clone() };
            match self.evaluate(&alone).await {
                Ok(resolutions) => all.packages.extend(resolutions.packages),
                Err(error) if error.is_about_a_package() => {
                    tracing::info!(package.name = %name, error = %error, "a package does not evaluate");
                    let problem = PackageProblem::new(ProblemKind::EvalError, FAILS_TO_EVALUATE);
                    all.packages.insert(name.clone(), Resolution::Problem(problem));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Why a name fails to evaluate: what an expression throws, for example that the package has another name now.
    async fn explain(&self, request: &ResolveRequest, name: &PackageName) -> Option<PackageProblem> {
        let alone = ResolveRequest { attributes: [name.clone()].into(), explain: true, ..request.clone() };
        let Err(ResolveError::Process(ProcessError::Failed { stderr, .. })) = self.evaluate(&alone).await
        else {
            return None;
        };
        if is_import_from_derivation(&stderr) {
            return Some(PackageProblem::new(ProblemKind::EvalError, IMPORTS_FROM_DERIVATION));
        }
        let places = [request.source.place().map(Path::to_path_buf), std::env::home_dir()];
        let places: Vec<String> =
            places.into_iter().flatten().map(|place| place.display().to_string()).collect();
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let reason = Reason::of_evaluation(&stderr, &places);
        tracing::info!(package.name = %name, reason = reason.as_ref().map(Reason::as_str), "a package does not evaluate");
        Some(PackageProblem { reason, ..PackageProblem::new(ProblemKind::EvalError, FAILS_TO_EVALUATE) })
    }

    async fn evaluate(&self, request: &ResolveRequest) -> Result<Resolutions, ResolveError> {
        let answer = self.evaluate_file(self.expressions.resolve(), request, request.client).await?;
        serde_json::from_slice(&answer).map_err(ResolveError::Answer)
    }

    /// What an expression of ours answers to a request, as JSON.
    pub(super) async fn evaluate_file(
        &self,
        file: PathBuf,
        request: &impl Serialize,
        client: Client,
    ) -> Result<Vec<u8>, ProcessError> {
        let _turn = self.evaluations.take(client).await;
        let request = serde_json::to_string(request).expect("names and paths serialise");
        let mut arguments: Vec<_> = [
            "--eval",
            "--strict",
            "--json",
            "--read-write-mode",
            "--option",
            "allow-import-from-derivation",
            "false",
        ]
        .map(Into::into)
        .into();
        arguments.push(file.into());
        arguments.extend(["--argstr".into(), "request".into(), request.into()]);
        let bounds = Bounds { time: self.eval_timeout, memory: Memory::OneProcess(self.eval_memory_bytes) };
        self.run("nix-instantiate", arguments, bounds, |_| {}).await
    }
}

impl ResolveError {
    /// Whether one of the names asked for may be the cause: evaluation failed, took too long or ran out of
    /// memory, where Nix itself is in order.
    fn is_about_a_package(&self) -> bool {
        matches!(self, Self::Process(ProcessError::Failed { .. } | ProcessError::Timeout { .. }))
    }
}
