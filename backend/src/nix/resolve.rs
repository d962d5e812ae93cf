//! Resolving names: one evaluation of `nix/resolve.nix` for all of them.

use super::{
    Bounds, Memory, Nix, ProcessError,
    failure::Said,
    restriction::{self, is_refusal},
};
use crate::{
    audience::{Abandoned, Audience},
    package_set::{Source, Trust},
};
use firn_shared::{
    naming::{
        package::{PackageProblem, ProblemKind, Resolution, Resolutions},
        package_name::PackageName,
        reason::{Reason, is_import_from_derivation},
    },
    oci::platform::Platform,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a client is told of a package whose evaluation fails.
const FAILS_TO_EVALUATE: &str = "its expression in the package set fails to evaluate";
/// What it is told where that is for a reason of Firn's own.
const IMPORTS_FROM_DERIVATION: &str = "something has to be built before it can be evaluated (import from derivation), \
                                       which is off in this registry";

/// What it is told where that is because a caller chose the revision.
const IS_RESTRICTED: &str = "evaluating its expression reads files outside the package set or downloads something, which \
                             this registry allows only at the revision that the tag latest names";

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
    /// At this revision, which a caller chose, nothing of the package set can be evaluated.
    #[error("the package set does not load at this revision")]
    Unloadable {
        /// Whether that is because of the restrictions of such a revision.
        restricted: bool,
        /// What became of the process.
        source: ProcessError,
    },
    /// Nobody waits for it any more.
    #[error(transparent)]
    Abandoned(#[from] Abandoned),
}

/// What became of names.
#[derive(Debug, Default)]
pub struct Resolved {
    /// Packages and problems, by name as asked.
    pub packages: BTreeMap<PackageName, Resolution>,
    /// When the package set's revision was committed, in seconds since 1970, where the source tells.
    pub revision_date: Option<i64>,
    /// The names that there was no time for.
    pub undecided: BTreeSet<PackageName>,
    /// Those of them whose evaluation, together, took longer than a fair share of the time: one of them is to blame.
    pub overran: BTreeSet<PackageName>,
}

/// How much may be evaluated for one image.
#[derive(Debug)]
pub struct Budget {
    /// The time for all of it.
    time: Duration,
    /// What is left of it.
    left: Duration,
    /// How many evaluations are left.
    evaluations: usize,
}

/// How many evaluations one image may take: enough to find one name in a hundred that breaks the evaluation of all.
const MAX_EVALUATIONS: usize = 20;

/// Into how many groups suspected names are divided at most. Of fifty names the one to blame is found in the third
/// attempt.
const GROUPS_OF_SUSPECTS: usize = 8;

impl Budget {
    fn is_spent(&self) -> bool {
        self.left.is_zero() || self.evaluations == 0
    }
}

impl ResolveRequest {
    /// A request for these names.
    pub fn new(
        source: Source,
        platform: Platform,
        allow_unfree: bool,
        attributes: BTreeSet<PackageName>,
    ) -> Self {
        let (system, config) = (platform.system(), config(allow_unfree));
        Self { source, system, config, attributes, explain: false }
    }

    fn with(&self, attributes: BTreeSet<PackageName>) -> Self {
        Self { attributes, ..self.clone() }
    }
}

impl Nix {
    /// What one image may cost in evaluations.
    pub fn budget(&self) -> Budget {
        Budget { time: self.eval_timeout, left: self.eval_timeout, evaluations: MAX_EVALUATIONS }
    }

    /// How long the evaluations of one image may take together.
    pub fn eval_timeout(&self) -> Duration {
        self.eval_timeout
    }

    /// Resolves names to derivations, which exist in the store afterwards. Clients take turns at evaluations.
    ///
    /// Some failures end a whole evaluation (a missing attribute, `abort`, endless recursion). Then halves are
    /// evaluated by themselves, and halves of those, so that a broken name spoils no other. An evaluation that takes
    /// too long has spent the time of all: names that are `suspected` of that are therefore evaluated first, in small
    /// groups, or each by itself where they are few.
    ///
    /// # Errors
    /// When the package set itself cannot be loaded, Nix cannot be run, or nobody waits for it any more.
    pub async fn resolve(
        &self,
        request: &ResolveRequest,
        suspected: &BTreeSet<PackageName>,
        budget: &mut Budget,
        audience: &Arc<Audience>,
    ) -> Result<Resolved, ResolveError> {
        let mut resolved = Resolved::default();
        let (suspects, others): (BTreeSet<_>, BTreeSet<_>) =
            request.attributes.iter().cloned().partition(|name| suspected.contains(name));
        // The next one last.
        let mut groups = vec![Group::of(others)];
        let suspects: Vec<_> = suspects.into_iter().collect();
        let few = suspects.len().div_ceil(GROUPS_OF_SUSPECTS).max(1);
        groups.extend(suspects.chunks(few).rev().map(|names| Group::of(names.iter().cloned().collect())));
        let mut loads = false;
        let mut overran = false;
        // Problems with reasons.
        let mut known = BTreeSet::new();
        while let Some(Group { mut names, is_first_half, fails }) = groups.pop() {
            if names.is_empty() {
                continue;
            }
            if budget.is_spent() {
                resolved.undecided.append(&mut names);
                continue;
            }
            if fails && names.len() > 1 {
                halve(names, &mut groups);
                continue;
            }
            let fair = budget.left >= budget.time / 2;
            let error = match self.evaluate(&request.with(names.clone()), budget, audience).await {
                Ok(answer) => {
                    loads = true;
                    resolved.packages.extend(answer.packages);
                    resolved.revision_date = answer.revision_date;
                    if is_first_half && let Some(second_half) = groups.last_mut() {
                        second_half.fails = true;
                    }
                    continue;
                }
                Err(error) if error.is_about_a_package() => error,
                Err(error) => return Err(error),
            };
            if !loads {
                self.load(request, self.eval_timeout / 2, audience).await?;
                loads = true;
            }
            match error {
                ResolveError::Process(ProcessError::Timeout { .. }) => {
                    tracing::info!(names = ?names, "an evaluation takes too long");
                    overran = true;
                    if fair {
                        resolved.overran.extend(names.iter().cloned());
                    }
                    resolved.undecided.append(&mut names);
                }
                ResolveError::Process(ProcessError::Failed { stderr, .. }) if names.len() == 1 => {
                    let name = names.pop_first().expect("there is one");
                    let problem = explained(request, &name, &stderr);
                    known.insert(name.clone());
                    resolved.packages.insert(name, Resolution::Problem(problem));
                }
                _ => halve(names, &mut groups),
            }
        }
        for (name, resolution) in &mut resolved.packages {
            // After a time-out there is no time for explanations.
            if let Resolution::Problem(problem) = resolution
                && problem.kind == ProblemKind::EvalError
                && !known.contains(name)
                && !overran
                && !budget.is_spent()
                && let Some(explained) = self.explain(request, name, budget, audience).await
            {
                *problem = explained;
            }
        }
        Ok(resolved)
    }

    /// Asks whether the package set loads at all within this time, with no name: if not, no name is to blame.
    ///
    /// # Errors
    /// When it does not.
    pub async fn load(
        &self,
        request: &ResolveRequest,
        time: Duration,
        audience: &Arc<Audience>,
    ) -> Result<(), ResolveError> {
        let mut budget = Budget { time, left: time, evaluations: 1 };
        match self.evaluate(&request.with(BTreeSet::new()), &mut budget, audience).await {
            // The revision never changes, and what is in the way of others is not in its.
            Err(ResolveError::Process(
                source @ (ProcessError::Failed { .. } | ProcessError::Timeout { .. }),
            )) if request.source.trust() == Trust::Caller => {
                let restricted = matches!(&source, ProcessError::Failed { stderr, .. } if is_refusal(stderr));
                Err(ResolveError::Unloadable { restricted, source })
            }
            answer => answer.map(drop),
        }
    }

    /// Why a name fails to evaluate: what an expression throws, for example that the package has another name now.
    async fn explain(
        &self,
        request: &ResolveRequest,
        name: &PackageName,
        budget: &mut Budget,
        audience: &Arc<Audience>,
    ) -> Option<PackageProblem> {
        let alone = ResolveRequest { explain: true, ..request.with([name.clone()].into()) };
        match self.evaluate(&alone, budget, audience).await {
            Err(ResolveError::Process(ProcessError::Failed { stderr, .. })) => {
                Some(explained(request, name, &stderr))
            }
            _ => None,
        }
    }

    async fn evaluate(
        &self,
        request: &ResolveRequest,
        budget: &mut Budget,
        audience: &Arc<Audience>,
    ) -> Result<Resolutions, ResolveError> {
        let _turn = self.evaluations.take(audience).await?;
        let started = Instant::now();
        budget.evaluations = budget.evaluations.saturating_sub(1);
        let answer = self
            .evaluate_file(self.expressions.resolve(), &request.source, request, (budget.left, false), |_| {})
            .await;
        budget.left = match answer {
            Err(ProcessError::Timeout { .. }) => Duration::ZERO,
            _ => budget.left.saturating_sub(started.elapsed()),
        };
        serde_json::from_slice(&answer?).map_err(ResolveError::Answer)
    }

    /// What an expression of ours answers to a request about this package set, as JSON, within this time. Each line of
    /// stderr goes to `line`. One that gives way has a low priority.
    pub(super) async fn evaluate_file(
        &self,
        file: PathBuf,
        source: &Source,
        request: &impl Serialize,
        (time, gives_way): (Duration, bool),
        mut line: impl FnMut(&str),
    ) -> Result<Vec<u8>, ProcessError> {
        let request = serde_json::to_string(request).expect("names and paths serialise");
        let mut arguments: Vec<_> = [
            "--eval",
            "--strict",
            "--json",
            "--read-write-mode",
            "--option",
            "allow-import-from-derivation",
            "false",
            "--log-format",
            "internal-json",
        ]
        .map(Into::into)
        .into();
        arguments.extend(restriction::arguments(source, &self.expressions));
        arguments.push(file.into());
        arguments.extend(["--argstr".into(), "request".into(), request.into()]);
        let bounds = Bounds { time, memory: Memory::OneProcess(self.eval_memory_bytes), gives_way };
        let mut said = Said::default();
        let result = self
            .run("nix-instantiate", arguments, bounds, |text| {
                said.hear(text);
                line(text);
            })
            .await;
        result.map_err(|error| {
            // What expressions download while they are evaluated.
            let obstacle = match error {
                ProcessError::Failed { .. } => said.obstacle(),
                ProcessError::Timeout { .. } => said.obstacle_when_time_ran_out(),
                _ => None,
            };
            match obstacle {
                Some(obstacle) => error.hindered_by(obstacle),
                None => error,
            }
        })
    }
}

/// What Nix says of a name that fails to evaluate when it is evaluated alone.
fn explained(request: &ResolveRequest, name: &PackageName, stderr: &[String]) -> PackageProblem {
    // All of it, for the operator.
    tracing::info!(package.name = %name, error = %stderr.join("\n  "), "a package does not evaluate");
    if is_import_from_derivation(stderr) {
        return PackageProblem::new(ProblemKind::EvalError, IMPORTS_FROM_DERIVATION);
    }
    if request.source.trust() == Trust::Caller && is_refusal(stderr) {
        return PackageProblem::new(ProblemKind::EvalError, IS_RESTRICTED);
    }
    let places = [Some(request.source.place().to_owned()), std::env::home_dir()];
    let places: Vec<String> = places.into_iter().flatten().map(|place| place.display().to_string()).collect();
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let reason = Reason::of_evaluation(stderr, &places);
    PackageProblem { reason, ..PackageProblem::new(ProblemKind::EvalError, FAILS_TO_EVALUATE) }
}

/// Names that are evaluated together.
struct Group {
    names: BTreeSet<PackageName>,
    /// Whether the second half, of a whole that fails, is next.
    is_first_half: bool,
    /// Whether it is known to fail without being tried: the whole fails, and the first half does not.
    fails: bool,
}

impl Group {
    fn of(names: BTreeSet<PackageName>) -> Self {
        Self { names, is_first_half: false, fails: false }
    }
}

/// Puts the halves of a group that fails on the stack of groups.
fn halve(mut names: BTreeSet<PackageName>, groups: &mut Vec<Group>) {
    let middle = names.iter().nth(names.len() / 2).cloned().expect("there are two names at least");
    let second = names.split_off(&middle);
    groups.push(Group::of(second));
    groups.push(Group { is_first_half: true, ..Group::of(names) });
}

impl ResolveError {
    /// Whether one of the names asked for may be the cause: evaluation failed, took too long or ran out of
    /// memory, where Nix itself is in order.
    fn is_about_a_package(&self) -> bool {
        matches!(self, Self::Process(ProcessError::Failed { .. } | ProcessError::Timeout { .. }))
    }
}
