//! Resolving names: one evaluation of `nix/resolve.nix` for all of them.

use super::{Bounds, Memory, Nix, ProcessError};
use crate::turns::Client;
use firn_shared::{
    package::{PackageProblem, ProblemKind, Resolution, Resolutions},
    package_name::PackageName,
    platform::Platform,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// nixpkgs' `config`, as far as Firn sets it.
pub(super) type Config = BTreeMap<&'static str, bool>;

pub(super) fn config(allow_unfree: bool) -> Config {
    BTreeMap::from([("allowUnfree", allow_unfree)])
}

/// A package set at a revision, in the form that `nix/load-pkgs.nix` takes, with what is asked of it.
#[derive(Debug, Clone, Serialize)]
pub struct ResolveRequest {
    /// Where the package set is.
    pub source: serde_json::Value,
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
        source: serde_json::Value,
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
                && let Some(reason) = self.explain(request, name).await
            {
                problem.message = format!("its expression in the package set fails to evaluate: {reason}");
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
                    let message = "its expression in the package set fails to evaluate";
                    let problem = PackageProblem::new(ProblemKind::EvalError, message);
                    all.packages.insert(name.clone(), Resolution::Problem(problem));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// What an expression throws, for example that the package has another name now.
    async fn explain(&self, request: &ResolveRequest, name: &PackageName) -> Option<String> {
        let alone = ResolveRequest { attributes: [name.clone()].into(), explain: true, ..request.clone() };
        match self.evaluate(&alone).await {
            Err(ResolveError::Process(ProcessError::Failed { stderr, .. })) => thrown(&stderr),
            _ => None,
        }
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

/// The text of the innermost error: Nix prints a trace above it and hints below. Paths of this machine are not
/// for everybody, so nothing is told when there is one.
fn thrown(stderr: &[String]) -> Option<String> {
    const MAX_CHARS: usize = 300;
    let text = stderr.iter().rev().find_map(|line| line.trim_start().strip_prefix("error: "))?;
    (!text.contains('/')).then(|| text.chars().take(MAX_CHARS).collect())
}

impl ResolveError {
    /// Whether one of the names asked for may be the cause: evaluation failed, took too long or ran out of
    /// memory, where Nix itself is in order.
    fn is_about_a_package(&self) -> bool {
        matches!(self, Self::Process(ProcessError::Failed { .. } | ProcessError::Timeout { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_was_thrown_and_no_paths() {
        let check = |stderr: &[&str], expect: Option<&str>| {
            let lines: Vec<_> = stderr.iter().map(ToString::to_string).collect();
            assert_eq!(thrown(&lines).as_deref(), expect, "{stderr:?}");
        };
        check(&["error: foo was removed; use bar", "(use '--show-trace')"], Some("foo was removed; use bar"));
        check(&["error:", "   … while evaluating", "       error: foo is gone"], Some("foo is gone"));
        check(&["error: attribute 'x' missing, at /srv/pkgs/default.nix:3:1"], None);
        check(&[], None);
        check(&[&format!("error: {}", "ä".repeat(1000))], Some(&"ä".repeat(300)));
    }
}
