//! Evaluating names for images. Results are kept, and names that take too long are not evaluated again and again.
//!
//! An evaluation that never ends costs its whole time, and it does not say which of its names is to blame. So the names
//! of one that took too long are suspected: they are evaluated in smaller groups the next time, and a name that is
//! alone in its group is refused from then on, with everything below it. A client may cause few of these evaluations.

use super::{PackageError, Packages};
use crate::{
    nix::{EvaluationBudget, ProcessError, ResolveError, ResolveRequest, Resolved},
    package_set::Trust,
    waiting::{Audience, Client, QueueError, for_a_while},
};
use firn_shared::{
    cache_key::CacheKey,
    naming::{
        package::{Package, PackageProblem, ProblemKind, Resolution},
        package_name::PackageName,
        package_source::Revision,
    },
    oci::platform::Platform,
};
use moka::sync::Cache;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often a package set that changes under our hands is evaluated anew.
const ATTEMPTS: usize = 3;

/// How many evaluations that take too long one client may cause while they are remembered.
const MAX_OVERRUNS: usize = 3;

/// Names to resolve.
pub(super) struct Wanted<'a> {
    /// The revision of the package set.
    pub(super) revision: &'a Revision,
    /// Who chose the revision.
    pub(super) trust: Trust,
    /// The platform.
    pub(super) platform: Platform,
    /// The names.
    pub(super) names: BTreeSet<PackageName>,
    /// Those of them that the client asked for. Without the others, there is still an image.
    pub(super) requested: &'a BTreeSet<PackageName>,
}

/// What is remembered of evaluations, for as long as failures are.
#[derive(Debug)]
pub(super) struct Evaluations {
    /// Packages that have not been realised, with the date of their revision.
    packages: Cache<CacheKey, (Option<i64>, Package)>,
    /// Names of which one takes too long.
    suspected: Cache<CacheKey, ()>,
    /// Names that take too long, and what is said of them.
    endless: Cache<CacheKey, PackageProblem>,
    /// How many evaluations that took too long each client has caused.
    overruns: Cache<Client, usize>,
}

impl Evaluations {
    pub(super) fn new(ttl: Duration) -> Self {
        let (packages, suspected, endless) = (for_a_while(ttl), for_a_while(ttl), for_a_while(ttl));
        Self { packages, suspected, endless, overruns: for_a_while(ttl) }
    }

    /// A package that was resolved not long ago.
    pub(super) fn package(&self, key: &CacheKey) -> Option<(Option<i64>, Package)> {
        self.packages.get(key)
    }

    /// Refuses a client that has caused too many evaluations that took too long.
    ///
    /// # Errors
    /// [`QueueError::Overran`].
    pub(super) fn check(&self, client: Client) -> Result<(), QueueError> {
        match self.overruns.get(&client) {
            Some(overruns) if overruns >= MAX_OVERRUNS => Err(QueueError::Overran(overruns)),
            _ => Ok(()),
        }
    }

    /// The problem of a name that takes too long to evaluate, or that is in a set that does.
    pub(super) fn endless(
        &self,
        name: &PackageName,
        key: impl Fn(&PackageName) -> CacheKey,
    ) -> Option<PackageProblem> {
        let text = name.as_str();
        let ends = text.match_indices('.').map(|(at, _)| at).chain([text.len()]);
        ends.filter_map(|end| text[..end].parse::<PackageName>().ok())
            .find_map(|above| self.endless.get(&key(&above)))
    }

    /// Remembers the clients of an evaluation that took too long.
    fn overran(&self, audience: &Audience) {
        for (client, _) in audience.clients().into_iter().filter(|(client, _)| client.is_known()) {
            self.overruns.insert(client, self.overruns.get(&client).unwrap_or(0) + 1);
        }
    }

    /// Remembers the results for names, and decides which name to blame for an evaluation that took too long.
    fn note(
        &self,
        resolved: &mut Resolved,
        requested: &BTreeSet<PackageName>,
        audience: &Audience,
        limit: Duration,
        key: impl Fn(&PackageName) -> CacheKey,
    ) {
        for (name, resolution) in &resolved.packages {
            self.suspected.invalidate(&key(name));
            if let Resolution::Ok(package) = resolution {
                self.packages.insert(key(name), (resolved.revision_date, package.clone()));
            }
        }
        if resolved.overran.is_empty() {
            return;
        }
        self.overran(audience);
        for name in &resolved.undecided {
            self.suspected.invalidate(&key(name));
        }
        let mut suspects: Vec<_> = resolved.overran.intersection(requested).cloned().collect();
        match (suspects.pop(), suspects.is_empty()) {
            // The names that every image name implies are known to evaluate quickly.
            (Some(name), true) => {
                let message = format!(
                    "evaluating its expression in the package set takes longer than the {} s that this registry \
                     allows",
                    limit.as_secs()
                );
                let problem = PackageProblem::new(ProblemKind::EvalError, message);
                self.endless.insert(key(&name), problem.clone());
                resolved.undecided.remove(&name);
                resolved.packages.insert(name, Resolution::Problem(problem));
            }
            _ => resolved.overran.iter().for_each(|name| self.suspected.insert(key(name), ())),
        }
    }
}

impl Packages {
    /// Resolves names at exactly this revision. Names that cannot be resolved within the time that an image has are left
    /// undecided. With binary caches, derivations are not written: they are needed only for what no cache has.
    pub(super) async fn resolve(
        &self,
        wanted: Wanted<'_>,
        audience: &Arc<Audience>,
    ) -> Result<Resolved, PackageError> {
        self.evaluate(wanted, !self.paths.has_caches(), audience).await
    }

    /// The same, and writes the derivations to the Nix store.
    pub(super) async fn resolve_and_write(
        &self,
        wanted: Wanted<'_>,
        audience: &Arc<Audience>,
    ) -> Result<Resolved, PackageError> {
        self.evaluate(wanted, true, audience).await
    }

    async fn evaluate(
        &self,
        Wanted { revision, trust, platform, names, requested }: Wanted<'_>,
        writes: bool,
        audience: &Arc<Audience>,
    ) -> Result<Resolved, PackageError> {
        let key = |name: &PackageName| self.key(revision, platform, name);
        let suspected = &self.evaluations.suspected;
        let suspected = names.iter().filter(|name| suspected.contains_key(&key(name))).cloned().collect();
        let source = self.set.files(revision, trust, audience).await?;
        let request = ResolveRequest::new(source, platform, self.allow_unfree, names).writing(writes);
        // One for all attempts.
        let mut budget: EvaluationBudget = self.nix.budget();
        for _ in 0..ATTEMPTS {
            let resolved = self.nix.resolve(&request, &suspected, &mut budget, audience).await;
            if let Err(ResolveError::Unloadable { source: ProcessError::Timeout { .. }, .. }) = &resolved {
                self.evaluations.overran(audience);
            }
            // A path is evaluated where it is. If it changed meanwhile, the result belongs to no revision.
            if self.set.is_current(revision).await? {
                let mut resolved = resolved?;
                self.evaluations.note(&mut resolved, requested, audience, self.nix.eval_timeout(), key);
                return Ok(resolved);
            }
        }
        Err(PackageError::Moving)
    }

    /// The error that there was no time for these names.
    pub(super) fn undecided(&self, names: impl IntoIterator<Item = PackageName>) -> PackageError {
        PackageError::Undecided { limit: self.nix.eval_timeout(), names: names.into_iter().collect() }
    }
}
