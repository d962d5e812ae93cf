//! Resolves names: one evaluation of `nix/resolve.nix` for all of them.

use super::{
    Bounds, Memory, Nix, ProcessError,
    clock::Clock,
    failure::Obstacle,
    failure::Said,
    process::INTERRUPTED,
    restriction::{self, is_refusal},
};
use crate::{
    package_set::{PackageSetFiles, Trust},
    waiting::{Abandoned, Audience},
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
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a client is told if a package fails to evaluate.
const FAILS_TO_EVALUATE: &str = "its expression in the package set fails to evaluate";
/// What it is told if Firn's settings make the evaluation fail.
const IMPORTS_FROM_DERIVATION: &str = "something has to be built before it can be evaluated (import from derivation), \
                                       which is off in this registry";

/// What it is told if the evaluation fails because a caller chose the revision.
const IS_RESTRICTED: &str = "evaluating its expression reads files outside the package set or downloads something, which \
                             this registry allows only at the revision that the tag latest names";

/// The part of nixpkgs' `config` that Firn sets.
pub(super) type NixpkgsConfig = BTreeMap<&'static str, bool>;

pub(super) fn config(allow_unfree: bool) -> NixpkgsConfig {
    BTreeMap::from([("allowUnfree", allow_unfree)])
}

/// A package set at a revision, in the form that `nix/load-pkgs.nix` takes, and the names to resolve.
#[derive(Debug, Clone, Serialize)]
pub struct ResolveRequest {
    /// The files of the package set.
    pub source: PackageSetFiles,
    /// Nix's name of the platform.
    pub system: &'static str,
    /// nixpkgs' `config`.
    pub config: NixpkgsConfig,
    /// The names to resolve.
    pub attributes: BTreeSet<PackageName>,
    /// Whether the derivations of packages are written to the Nix store. Without it, evaluation writes nothing.
    #[serde(skip)]
    writes: bool,
    /// If true, an expression that throws makes the evaluation fail, so that its message can be read. Otherwise the
    /// answer only says that it throws.
    explain: bool,
}

/// Why no name could be resolved. A single name that cannot be resolved is a [`Resolution::Problem`] instead.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The evaluation gave no answer.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The answer is not what `nix/resolve.nix` prints.
    #[error("cannot parse the resolver's answer")]
    Answer(#[source] serde_json::Error),
    /// Nothing in the package set can be evaluated at this revision, which a caller chose.
    #[error("the package set does not load at this revision")]
    Unloadable {
        /// Whether the restrictions of such a revision are the reason.
        restricted: bool,
        /// The failure of the process.
        source: ProcessError,
    },
    /// No client waits any more.
    #[error(transparent)]
    Abandoned(#[from] Abandoned),
}

impl ResolveError {
    /// The message for clients; `None` if there is nothing that they may know.
    pub fn explain(&self) -> Option<String> {
        let message = match self {
            Self::Unloadable { restricted: true, .. } => {
                "at this revision the package set reads files outside of it or downloads something while it is \
                 evaluated, which this registry allows only at the revision that the tag latest names"
            }
            Self::Unloadable { .. } => {
                return Some(self.required_nix().map_or_else(
                    || self.to_string(),
                    |version| {
                        format!("at this revision the package set needs Nix {version}, and this registry has an older one")
                    },
                ));
            }
            Self::Abandoned(_) => return Some(self.to_string()),
            Self::Process(ProcessError::Failed { .. } | ProcessError::Timeout { .. }) => {
                return Some(self.required_nix().map_or_else(
                    || "the package set cannot be loaded; its operator finds the reason in the log".into(),
                    |version| {
                        format!(
                            "the package set cannot be loaded: it needs Nix {version}, and this registry has an older one"
                        )
                    },
                ));
            }
            Self::Process(ProcessError::Ended { .. }) => INTERRUPTED,
            Self::Process(ProcessError::Hindered { obstacle: Obstacle::Network, .. }) => {
                "what the package set downloads cannot be reached; its operator finds the reason in the log"
            }
            Self::Process(ProcessError::Hindered { .. }) => {
                "Nix has no space left; the operator finds the reason in the log"
            }
            Self::Process(_) | Self::Answer(_) => return None,
        };
        Some(message.into())
    }
}

/// The result of resolving names.
#[derive(Debug, Default)]
pub struct Resolved {
    /// Packages and problems, by requested name.
    pub packages: BTreeMap<PackageName, Resolution>,
    /// Commit time of the package set's revision in seconds since 1970, if the source has one.
    pub revision_date: Option<i64>,
    /// The names for which there was no time.
    pub undecided: BTreeSet<PackageName>,
    /// Names in `undecided` that were evaluated together and took longer than a fair share of the time. At least one
    /// of them is slow.
    pub overran: BTreeSet<PackageName>,
}

/// Limit of the evaluations for one image.
#[derive(Debug)]
pub struct EvaluationBudget {
    /// Time for all evaluations together.
    time: Duration,
    /// The remaining time.
    left: Duration,
    /// The remaining number of evaluations.
    evaluations: usize,
}

/// How many evaluations one image may take: enough to find the one name among a hundred that makes every evaluation
/// fail.
const MAX_EVALUATIONS: usize = 20;

/// Into how many groups suspected names are divided at most. The slow one of fifty names is found in the third
/// attempt.
const GROUPS_OF_SUSPECTS: usize = 8;

impl EvaluationBudget {
    fn is_spent(&self) -> bool {
        self.left.is_zero() || self.evaluations == 0
    }
}

impl ResolveRequest {
    /// A request for these names.
    pub fn new(
        source: PackageSetFiles,
        platform: Platform,
        allow_unfree: bool,
        attributes: BTreeSet<PackageName>,
    ) -> Self {
        let (system, config) = (platform.system(), config(allow_unfree));
        Self { source, system, config, attributes, writes: true, explain: false }
    }

    /// The same, which writes derivations or not.
    #[must_use]
    pub fn writing(self, writes: bool) -> Self {
        Self { writes, ..self }
    }

    fn with(&self, attributes: BTreeSet<PackageName>) -> Self {
        Self { attributes, ..self.clone() }
    }
}

impl Nix {
    /// A new budget for the evaluations of one image.
    pub fn budget(&self) -> EvaluationBudget {
        EvaluationBudget {
            time: self.limits.eval_time,
            left: self.limits.eval_time,
            evaluations: MAX_EVALUATIONS,
        }
    }

    /// Time limit for all evaluations of one image together.
    pub fn eval_timeout(&self) -> Duration {
        self.limits.eval_time
    }

    /// Resolves names to derivations, which then exist in the store. Clients take turns at evaluations.
    ///
    /// Some failures end a whole evaluation (a missing attribute, `abort`, endless recursion). The names are then
    /// halved, and each half is evaluated by itself, so that a broken name does not affect the others. An evaluation
    /// that takes too long uses up the time of all names. So names that are `suspected` of that are evaluated first:
    /// each by itself if they are few, in small groups otherwise.
    ///
    /// # Errors
    /// If the package set itself cannot be loaded, Nix cannot be run, or no client waits any more.
    pub async fn resolve(
        &self,
        request: &ResolveRequest,
        suspected: &BTreeSet<PackageName>,
        budget: &mut EvaluationBudget,
        audience: &Arc<Audience>,
    ) -> Result<Resolved, ResolveError> {
        let mut resolved = Resolved::default();
        let (suspects, others): (BTreeSet<_>, BTreeSet<_>) =
            request.attributes.iter().cloned().partition(|name| suspected.contains(name));
        // A stack: the next group is last.
        let mut groups = vec![Group::of(others)];
        let suspects: Vec<_> = suspects.into_iter().collect();
        let few = suspects.len().div_ceil(GROUPS_OF_SUSPECTS).max(1);
        groups.extend(suspects.chunks(few).rev().map(|names| Group::of(names.iter().cloned().collect())));
        let mut loads = false;
        let mut overran = false;
        // Names whose problem already has a reason.
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
                self.load(request, self.limits.eval_time / 2, audience).await?;
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
            // After a timeout there is no time left for explanations.
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

    /// Loads the package set within this time, without evaluating any name. If that fails, no name is the cause.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub async fn load(
        &self,
        request: &ResolveRequest,
        time: Duration,
        audience: &Arc<Audience>,
    ) -> Result<(), ResolveError> {
        let mut budget = EvaluationBudget { time, left: time, evaluations: 1 };
        match self.evaluate(&request.with(BTreeSet::new()), &mut budget, audience).await {
            // The revision never changes, so it would fail again; a temporary problem has another error.
            Err(ResolveError::Process(
                source @ (ProcessError::Failed { .. } | ProcessError::Timeout { .. }),
            )) if request.source.trust() == Trust::Caller => {
                let restricted = matches!(&source, ProcessError::Failed { stderr, .. } if is_refusal(stderr));
                Err(ResolveError::Unloadable { restricted, source })
            }
            answer => answer.map(drop),
        }
    }

    /// Why a name fails to evaluate: the message that an expression throws, for example that the package was renamed.
    async fn explain(
        &self,
        request: &ResolveRequest,
        name: &PackageName,
        budget: &mut EvaluationBudget,
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
        budget: &mut EvaluationBudget,
        audience: &Arc<Audience>,
    ) -> Result<Resolutions, ResolveError> {
        let _turn = self.evaluations.take(audience).await?;
        budget.evaluations = budget.evaluations.saturating_sub(1);
        let clock = Clock::start(budget.left, self.limits.download_time);
        let run = |writes| {
            let run = Evaluation { clock: &clock, gives_way: false, writes };
            self.evaluate_file(self.expressions.resolve(), &request.source, request, run, |_| {})
        };
        let answer = match run(request.writes).await {
            // Some expressions read what they have written to the store.
            Err(ProcessError::Failed { stderr, .. }) if !request.writes && needs_store(&stderr) => {
                run(true).await
            }
            answer => answer,
        };
        budget.left = match answer {
            Err(ProcessError::Timeout { .. }) => Duration::ZERO,
            _ => budget.left.saturating_sub(clock.spent()),
        };
        serde_json::from_slice(&answer?).map_err(ResolveError::Answer)
    }

    /// Evaluates one of Firn's expressions for this package set, and returns the JSON that it prints. `line` is called with
    /// each line of stderr.
    pub(super) async fn evaluate_file(
        &self,
        file: PathBuf,
        source: &PackageSetFiles,
        request: &impl Serialize,
        Evaluation { clock, gives_way, writes }: Evaluation<'_>,
        mut line: impl FnMut(&str),
    ) -> Result<Vec<u8>, ProcessError> {
        let request = serde_json::to_string(request).expect("names and paths serialise");
        let mut arguments: Vec<_> = [
            "--eval",
            "--strict",
            "--json",
            "--option",
            "allow-import-from-derivation",
            "false",
            "--log-format",
            "internal-json",
        ]
        .map(Into::into)
        .into();
        if writes || source.is_flake() {
            arguments.push("--read-write-mode".into());
        }
        arguments.extend(self.store_for_evaluations());
        arguments.extend(restriction::arguments(source, &self.expressions));
        arguments.push(file.into());
        arguments.extend(["--argstr".into(), "request".into(), request.into()]);
        // The clock has the bound of time.
        let time = self.limits.eval_time;
        let bounds = Bounds { time, memory: Memory::OneProcess(self.limits.eval_memory), gives_way };
        let mut said = Said::default();
        self.processes.fetch_add(1, Ordering::Relaxed);
        let result = self
            .run_by(clock, "nix-instantiate", arguments, bounds, |text| {
                said.hear(text);
                line(text);
            })
            .await;
        result.map_err(|error| {
            // Expressions may download files while they are evaluated.
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

/// How an expression is evaluated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evaluation<'a> {
    /// Measures its time, and that of the same evaluation if it has to be done again.
    pub(super) clock: &'a Clock,
    /// Whether it runs at low priority.
    pub(super) gives_way: bool,
    /// Whether derivations and other results of the expression are written to the Nix store.
    pub(super) writes: bool,
}

/// Whether an evaluation that wrote nothing failed for want of something that it would have written.
fn needs_store(stderr: &[String]) -> bool {
    let is_missing = |line: &String| {
        line.contains("/nix/store/")
            && ["is not valid", "does not exist", "No such file"].iter().any(|why| line.contains(why))
    };
    stderr.iter().any(is_missing)
}

/// The problem of a name that was evaluated alone, from Nix's error.
fn explained(request: &ResolveRequest, name: &PackageName, stderr: &[String]) -> PackageProblem {
    // The operator gets the whole error.
    tracing::info!(package.name = %name, error = %stderr.join("\n  "), "a package does not evaluate");
    if is_import_from_derivation(stderr) {
        return PackageProblem::new(ProblemKind::EvalError, IMPORTS_FROM_DERIVATION);
    }
    if request.source.trust() == Trust::Caller && is_refusal(stderr) {
        return PackageProblem::new(ProblemKind::EvalError, IS_RESTRICTED);
    }
    let places = [Some(request.source.as_path().to_owned()), std::env::home_dir()];
    let places: Vec<String> = places.into_iter().flatten().map(|place| place.display().to_string()).collect();
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let reason = Reason::of_evaluation(stderr, &places);
    PackageProblem { reason, ..PackageProblem::new(ProblemKind::EvalError, FAILS_TO_EVALUATE) }
}

/// Names that are evaluated together.
struct Group {
    names: BTreeSet<PackageName>,
    /// Whether this is the first half of a group that failed. The second half is next on the stack.
    is_first_half: bool,
    /// Whether it is known to fail: the whole group failed, and the first half did not.
    fails: bool,
}

impl Group {
    fn of(names: BTreeSet<PackageName>) -> Self {
        Self { names, is_first_half: false, fails: false }
    }
}

/// Pushes the halves of a group that failed onto the stack.
fn halve(mut names: BTreeSet<PackageName>, groups: &mut Vec<Group>) {
    let middle = names.iter().nth(names.len() / 2).cloned().expect("there are two names at least");
    let second = names.split_off(&middle);
    groups.push(Group::of(second));
    groups.push(Group { is_first_half: true, ..Group::of(names) });
}

impl ResolveError {
    /// Whether one of the names may be the cause: the evaluation failed or took too long, but Nix itself works.
    fn is_about_a_package(&self) -> bool {
        matches!(self, Self::Process(ProcessError::Failed { .. } | ProcessError::Timeout { .. }))
    }
}
