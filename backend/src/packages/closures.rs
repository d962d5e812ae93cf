//! Finding the closures of packages: from binary caches, and from Nix for what no cache has.

use super::{
    PackageError, Packages, contents,
    evaluations::Wanted,
    realisation::{Realised, outputs_of},
};
use crate::{
    binary_cache::CachedClosure,
    config::BuildPolicy,
    error_chain::chain,
    nix::GcRoot,
    package_set::Trust,
    store_paths::StorePathError,
    waiting::{Phase, Progress},
};
use firn_shared::{
    StorePath,
    naming::{
        package::{Package, PackageProblem, ProblemKind, Resolution},
        package_name::PackageName,
        package_source::Revision,
    },
    nix::closure::PathInfo,
    oci::{digest::NarHash, platform::Platform},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Where packages are looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) revision: &'a Revision,
    /// Whose code the revision is.
    pub(super) trust: Trust,
    pub(super) platform: Platform,
}

/// A package whose closure is known, and not what its files are.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) package: Package,
    pub(super) closure: Vec<PathInfo>,
}

/// Packages with their closures.
#[derive(Debug, Default)]
pub(super) struct Closures {
    /// Keeps in the Nix store what was realised.
    pub(super) root: Option<GcRoot>,
    /// What it keeps, with the content that is there.
    pub(super) held: HashMap<StorePath, NarHash>,
    pub(super) packages: Vec<(PackageName, Result<Closed, PackageProblem>)>,
}

/// Packages whose derivations exist, and those that cannot be resolved.
type WithDerivations = (Vec<(PackageName, Package)>, Vec<(PackageName, PackageProblem)>);

impl Packages {
    /// The closures of resolved packages. What no cache has is realised.
    ///
    /// # Errors
    /// When caches or Nix fail, and not because of one of the packages: those that cannot be built are problems in the
    /// result.
    pub(super) async fn closures(
        &self,
        origin: Origin<'_>,
        packages: Vec<(PackageName, Package)>,
        progress: &Progress,
    ) -> Result<Closures, PackageError> {
        if packages.is_empty() {
            return Ok(Closures::default());
        }
        let cached = match self.paths.has_caches() {
            true => self.cached(&packages, progress).await?,
            false => BTreeMap::new(),
        };
        let is_cached = |package: &Package| {
            let closure = contents::closure(package, &cached);
            let has = |path: &StorePath| cached.contains_key(path);
            package.outputs.iter().all(|output| has(&output.path))
                && closure.iter().flat_map(|info| &info.references).all(has)
        };
        let (there, missing): (Vec<_>, Vec<_>) =
            packages.into_iter().partition(|(_, package)| is_cached(package));
        let mut closures = self.build(origin, missing, &cached, progress).await?;
        closures.packages.extend(there.into_iter().map(|(name, package)| {
            let closure = contents::closure(&package, &cached);
            (name, Ok(Closed { package, closure }))
        }));
        Ok(closures)
    }

    /// What caches have of these packages' closures.
    async fn cached(
        &self,
        packages: &[(PackageName, Package)],
        progress: &Progress,
    ) -> Result<BTreeMap<StorePath, PathInfo>, PackageError> {
        let outputs: Vec<StorePath> = outputs_of(packages.iter().map(|(_, package)| package));
        progress.enter(Phase::Asking { done: 0, total: outputs.len() });
        let asked = |done, total| progress.enter(Phase::Asking { done, total });
        let closure = match self.paths.closure(&outputs, &asked).await {
            Ok(closure) => closure,
            // Without caches the image can still be made of what is in the Nix store already.
            Err(error @ StorePathError::Caches(_))
                if self.building.policy != BuildPolicy::Never && self.are_in_store(&outputs).await =>
            {
                tracing::warn!(error = %chain(&error), "binary caches fail; using the Nix store");
                CachedClosure::default()
            }
            Err(error) => return Err(error.into()),
        };
        Ok(closure.paths.into_iter().map(|path| (path.info.path.clone(), path.info)).collect())
    }

    /// Whether all these paths are valid in the Nix store.
    async fn are_in_store(&self, paths: &[StorePath]) -> bool {
        let are_there = paths.iter().all(|path| Path::new(path.as_str()).symlink_metadata().is_ok());
        are_there && self.nix.invalid(paths).await.is_ok_and(|invalid| invalid.is_empty())
    }

    /// Realises packages with Nix.
    async fn build(
        &self,
        origin: Origin<'_>,
        packages: Vec<(PackageName, Package)>,
        cached: &BTreeMap<StorePath, PathInfo>,
        progress: &Progress,
    ) -> Result<Closures, PackageError> {
        if packages.is_empty() {
            return Ok(Closures::default());
        }
        if self.building.policy == BuildPolicy::Never {
            let message = "no binary cache of this registry has it, and this registry builds nothing";
            let problem = |(name, _)| (name, Err(PackageProblem::new(ProblemKind::BuildError, message)));
            let packages = packages.into_iter().map(problem).collect();
            return Ok(Closures { packages, ..Closures::default() });
        }
        let (packages, gone) = self.with_derivations(origin, packages, progress).await?;
        progress.enter(Phase::Realising);
        self.check_number(&packages).await?;
        let Realised { root, infos, built, failed } =
            self.realise(packages, origin.platform, progress).await?;
        let held = infos.values().map(|info| (info.path.clone(), info.nar_hash)).collect();
        // Of a path that was built here and by a cache with different bytes, an image has those of the cache: the other
        // packages of the image have them too.
        let infos: BTreeMap<StorePath, PathInfo> = infos
            .into_iter()
            .map(|(path, own)| {
                let same = |other: &&PathInfo| {
                    let references =
                        |info: &PathInfo| info.references.iter().cloned().collect::<BTreeSet<_>>();
                    references(other) == references(&own)
                };
                let info = cached.get(&path).filter(same).cloned().unwrap_or(own);
                (path, info)
            })
            .collect();
        let closed = |(name, package): (PackageName, Package)| {
            let closure = contents::closure(&package, &infos);
            (name, Ok(Closed { package, closure }))
        };
        let failed = failed.into_iter().chain(gone).map(|(name, problem)| (name, Err(problem)));
        Ok(Closures { root, held, packages: failed.chain(built.into_iter().map(closed)).collect() })
    }

    /// The same packages, all with derivations that exist in the Nix store: they were resolved without writing any. And those
    /// that cannot be resolved any more.
    async fn with_derivations(
        &self,
        Origin { revision, trust, platform }: Origin<'_>,
        packages: Vec<(PackageName, Package)>,
        progress: &Progress,
    ) -> Result<WithDerivations, PackageError> {
        let is_there = |(_, package): &(PackageName, Package)| Path::new(package.drv.as_str()).exists();
        let (mut there, missing): (Vec<_>, Vec<_>) = packages.into_iter().partition(is_there);
        if missing.is_empty() {
            return Ok((there, Vec::new()));
        }
        progress.enter(Phase::Resolving);
        let names = missing.into_iter().map(|(name, _)| name).collect();
        let wanted = Wanted { revision, trust, platform, names, requested: &BTreeSet::new() };
        let resolved = self.resolve_and_write(wanted, progress.audience()).await?;
        if !resolved.undecided.is_empty() {
            return Err(self.undecided(resolved.undecided));
        }
        let mut gone = Vec::new();
        for (name, resolution) in resolved.packages {
            match resolution {
                Resolution::Ok(package) => there.push((name, package)),
                Resolution::Problem(problem) => gone.push((name.clone(), problem.settle(&name))),
            }
        }
        Ok((there, gone))
    }

    /// Refuses to build more derivations than the operator allows.
    async fn check_number(&self, packages: &[(PackageName, Package)]) -> Result<(), PackageError> {
        let Some(limit) = self.building.max_derivations else { return Ok(()) };
        let wanted: Vec<_> = packages.iter().map(|(_, package)| package).collect();
        let count = self.nix.to_build(&wanted).await?;
        if count <= limit {
            return Ok(());
        }
        let names = packages.iter().map(|(name, _)| name.clone()).collect();
        Err(PackageError::TooManyDerivations { names, count, limit })
    }
}
