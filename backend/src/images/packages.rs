//! What is known of packages: remembered from earlier builds, or found out with Nix.

use super::{
    BuildError, Builder, LOOKUPS,
    links::Links,
    listing::{self, ListingError},
};
use crate::error_chain::chain;
use crate::records::{NameRecord, package_key};
use crate::waiting::{Phase, Progress};
use crate::{
    nix::{Blame, Fault, GcRoot, Nix, RealiseError},
    package_set::Trust,
    store::RecordKind,
};
use firn_shared::{
    Closure, StorePath,
    cache_key::CacheKey,
    image::{
        selection::{SelectionError, select},
        settlement::{self, Settlement},
    },
    naming::{
        image_name::ImageName,
        package::{Package, PackageProblem, PackageRecord, ProblemKind, Resolution},
        package_name::PackageName,
        package_source::Revision,
    },
    nix::{
        closure::{ClosureError, PathInfo},
        store_path::STORE_DIR,
    },
    oci::platform::Platform,
};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// What is known of the names of an image.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// When the revision was committed, in seconds since 1970.
    pub(super) revision_date: Option<i64>,
    packages: HashMap<PackageName, Result<Arc<PackageRecord>, PackageProblem>>,
    /// Keeps what was realised just now, until the layers are packed.
    root: Option<GcRoot>,
    /// Those that the root does not keep, because they were known before.
    remembered: HashSet<PackageName>,
}

impl Known {
    /// What was realised may go from the Nix store.
    pub(super) fn let_go(&mut self) {
        self.root = None;
    }

    /// The store paths that stay in the Nix store until they are let go.
    pub(super) fn held(&self) -> HashSet<&StorePath> {
        let realised = |name: &PackageName| self.root.is_some() && !self.remembered.contains(name);
        let records = self.packages.iter().filter(|(name, _)| realised(name));
        let records = records.filter_map(|(_, package)| package.as_ref().ok());
        records.flat_map(|record| &record.closure).map(|info| &info.path).collect()
    }

    /// The packages of an image.
    fn selected(&self, name: &ImageName) -> Result<Vec<(PackageName, Arc<PackageRecord>)>, SelectionError> {
        type Named = (PackageName, Arc<PackageRecord>);
        let is_same = |(_, one): &Named, (_, other): &Named| one.is_same(other);
        let selected = select(name, is_same, |package| Ok((package.clone(), self.package(package)?)))?;
        Ok(selected.into_iter().map(|selected| selected.package).collect())
    }

    /// What is known of a name. Every name that was asked for is there.
    pub(super) fn package(&self, name: &PackageName) -> Result<Arc<PackageRecord>, PackageProblem> {
        self.packages.get(name).cloned().expect("all names were looked up")
    }

    /// The names without which there is no image, and which cannot be had.
    fn hopeless(&self, requested: &BTreeSet<PackageName>) -> Vec<(PackageName, PackageProblem)> {
        let problem = |name: &PackageName| Some(self.packages.get(name)?.as_ref().err()?.clone());
        requested.iter().filter_map(|name| Some((name.clone(), problem(name)?))).collect()
    }
}

/// What is known of the names of an image without asking Nix.
#[derive(Debug)]
pub(super) struct Recalled {
    /// Whose code the revision was when this was looked up.
    trust: Trust,
    known: Known,
    /// What was resolved not long ago, and not realised.
    resolved: Vec<(PackageName, Package)>,
    unknown: BTreeSet<PackageName>,
}

impl Recalled {
    /// Whether that is everything.
    pub(super) fn is_complete(&self) -> bool {
        self.resolved.is_empty() && self.unknown.is_empty()
    }
}

impl Builder {
    /// What is known of these names from earlier builds.
    pub(super) async fn recall(
        &self,
        revision: &Revision,
        trust: Trust,
        platform: Platform,
        names: BTreeSet<PackageName>,
    ) -> Result<Recalled, BuildError> {
        let unfree = self.recipe.allow_unfree;
        let key = |name: &PackageName| package_key(revision, platform, unfree, name);
        let mut recalled =
            Recalled { trust, known: Known::default(), resolved: Vec::new(), unknown: BTreeSet::new() };
        let mut lookups = Vec::new();
        for name in names {
            let key_of_name = key(&name);
            let problem = self.problems.get(&trust.failure_key(key_of_name));
            match problem.or_else(|| self.evaluations.endless(&name, key)) {
                Some(problem) => {
                    recalled.known.packages.insert(name, Err(problem));
                }
                None => lookups.push(async move {
                    Ok((name, self.store.record::<NameRecord>(RecordKind::Package, &key_of_name).await?))
                }),
            }
        }
        let found: Vec<_> =
            stream::iter(lookups).buffered(LOOKUPS).try_collect().await.map_err(BuildError::Store)?;
        let known = &mut recalled.known;
        for (name, remembered) in found {
            if let Some(remembered) = remembered {
                known.revision_date = known.revision_date.or(remembered.revision_date);
                known.remembered.insert(name.clone());
                known.packages.insert(name, remembered.package.map(Arc::new));
            } else if let Some((revision_date, package)) = self.evaluations.package(&key(&name)) {
                known.revision_date = known.revision_date.or(revision_date);
                recalled.resolved.push((name, package));
            } else {
                recalled.unknown.insert(name);
            }
        }
        Ok(recalled)
    }

    /// All that is known of these names; Nix is asked only about those that were never seen at this revision.
    pub(super) async fn packages_of(
        &self,
        revision: &Revision,
        platform: Platform,
        recalled: Recalled,
        requested: &BTreeSet<PackageName>,
        progress: &Progress,
    ) -> Result<Known, BuildError> {
        if recalled.is_complete() {
            return Ok(recalled.known);
        }
        let unfree = self.recipe.allow_unfree;
        let key = |name: &PackageName| package_key(revision, platform, unfree, name);
        let Recalled { trust, mut known, resolved: mut packages, mut unknown } = recalled;
        // Nothing is evaluated for an image with a name that spoils evaluations.
        let hopeless = known.hopeless(requested);
        if hopeless.iter().any(|(_, problem)| problem.kind == ProblemKind::EvalError) {
            return Err(SelectionError(hopeless).into());
        }
        // Nobody roots derivations that are not realised.
        packages.retain(|(name, package)| {
            let is_there = Path::new(package.drv.as_str()).exists();
            is_there || !unknown.insert(name.clone())
        });
        let (mut implied, mut noticed) = (Vec::new(), Vec::new());
        let mut undecided = BTreeSet::new();
        if !unknown.is_empty() {
            progress.enter(Phase::Resolving);
            let audience = progress.audience();
            let resolved = self.resolve(revision, trust, platform, unknown, requested, audience).await?;
            known.revision_date = resolved.revision_date.or(known.revision_date);
            undecided = resolved.undecided;
            for (name, resolution) in resolved.packages {
                match resolution {
                    Resolution::Ok(package) => packages.push((name, package)),
                    Resolution::Problem(problem) => {
                        let problem = problem.settle(&name);
                        // What an image name implies is asked for again and again; what people make up is not, and
                        // must not fill the store. Nor must what fails under restrictions be believed without.
                        let is_for_good = trust == Trust::Operator || problem.kind != ProblemKind::EvalError;
                        if !requested.contains(&name) && is_for_good {
                            let package = Err(problem.clone());
                            let revision_date = known.revision_date;
                            implied.push((key(&name), NameRecord { revision_date, package }));
                        }
                        noticed.push((trust.failure_key(key(&name)), problem.clone()));
                        known.packages.insert(name, Err(problem));
                    }
                }
            }
        }
        self.remember(implied).await?;
        // Only now: a record that is half written is read, found wanting and replaced by the next build.
        noticed.into_iter().for_each(|(key, problem)| self.problems.insert(key, problem));
        // Nothing is realised for an image that there cannot be.
        let hopeless = known.hopeless(requested);
        if !hopeless.is_empty() {
            return Err(SelectionError(hopeless).into());
        }
        if !undecided.is_empty() {
            return Err(BuildError::undecided(&self.nix, undecided));
        }
        progress.enter(Phase::Realising);
        let (root, realised) = self.realise(packages, platform, progress).await?;
        known.root = root;
        let mut records = Vec::new();
        for (name, package) in realised {
            match &package {
                Ok(record) => {
                    let (revision_date, package) = (known.revision_date, Ok(record.clone()));
                    records.push((key(&name), NameRecord { revision_date, package }));
                }
                Err(problem) => self.problems.insert(trust.failure_key(key(&name)), problem.clone()),
            }
            known.packages.insert(name, package.map(Arc::new));
        }
        self.remember(records).await?;
        Ok(known)
    }

    /// Writes down what is known of packages, all at once: see `store/files.rs`.
    async fn remember(&self, records: Vec<(CacheKey, NameRecord)>) -> Result<(), BuildError> {
        let writes: Vec<_> = records
            .iter()
            .map(|(key, remembered)| self.store.put_record(RecordKind::Package, key, remembered))
            .collect();
        Ok(stream::iter(writes).buffer_unordered(LOOKUPS).try_collect().await?)
    }

    /// Makes the records of an image's packages agree about what they share, by what they say.
    ///
    /// # Errors
    /// When the store fails. The inner one says that it takes a Nix store; see [`Builder::known_anew`].
    pub(super) async fn settle(
        &self,
        name: &ImageName,
        revision: &Revision,
        known: &mut Known,
    ) -> Result<Result<(), ClosureError>, BuildError> {
        let selected = known.selected(name)?;
        let records: Vec<&PackageRecord> = selected.iter().map(|(_, record)| &**record).collect();
        let Err(error @ ClosureError::Contradiction(_)) =
            Closure::new(records.iter().flat_map(|record| &record.closure))
        else {
            return Ok(Ok(()));
        };
        let settlement = match Settlement::new(&records) {
            Ok(settlement) => settlement,
            Err(error) => return Ok(Err(error)),
        };
        tracing::info!(image.name = %name, error = %error, "records of packages are brought in line");
        let renewed = selected
            .iter()
            .filter_map(|(package, record)| Some((package.clone(), settlement.renewed(record)?)));
        self.replace(revision, self.platform_of(name), known, renewed.collect()).await?;
        Ok(Ok(()))
    }

    /// Makes the store paths of an image's packages exist again, and their derivations too if those are gone, and reads
    /// anew what is known of them: what is built again may have other bytes. They stay in the Nix store like packages
    /// that were never known before.
    ///
    /// # Errors
    /// As for those.
    pub(super) async fn known_anew(
        &self,
        name: &ImageName,
        revision: &Revision,
        mut known: Known,
        progress: &Progress,
    ) -> Result<Known, BuildError> {
        let platform = self.platform_of(name);
        let before: BTreeMap<_, _> = known.selected(name)?.into_iter().collect();
        progress.enter(Phase::Resolving);
        let names = before.keys().cloned().collect();
        let (trust, audience) = (self.packages.trust(revision), progress.audience());
        let resolved = self.resolve(revision, trust, platform, names, &BTreeSet::new(), audience).await?;
        if !resolved.undecided.is_empty() {
            return Err(BuildError::undecided(&self.nix, resolved.undecided));
        }
        let (mut packages, mut problems) = (Vec::new(), Vec::new());
        for (name, resolution) in resolved.packages {
            match resolution {
                Resolution::Ok(package) => packages.push((name, package)),
                Resolution::Problem(problem) => problems.push((name.clone(), problem.settle(&name))),
            }
        }
        if !problems.is_empty() {
            return Err(SelectionError(problems).into());
        }
        progress.enter(Phase::Realising);
        let (root, realised) = self.realise(packages, platform, progress).await?;
        let records: Vec<&PackageRecord> = before.values().map(Arc::as_ref).collect();
        let mut renewed = Vec::new();
        for (name, package) in realised {
            match package {
                Ok(mut record) => {
                    settlement::decide(&mut record, &records);
                    if *before[&name] != record {
                        renewed.push((name, record));
                    }
                }
                Err(problem) => problems.push((name, problem)),
            }
        }
        if !problems.is_empty() {
            return Err(SelectionError(problems).into());
        }
        self.replace(revision, platform, &mut known, renewed).await?;
        known.root = root;
        known.remembered = known.packages.keys().filter(|name| !before.contains_key(name)).cloned().collect();
        Ok(known)
    }

    /// Puts records in the place of others.
    async fn replace(
        &self,
        revision: &Revision,
        platform: Platform,
        known: &mut Known,
        renewed: Vec<(PackageName, PackageRecord)>,
    ) -> Result<(), BuildError> {
        let mut records = Vec::new();
        for (name, record) in renewed {
            let key = package_key(revision, platform, self.recipe.allow_unfree, &name);
            records
                .push((key, NameRecord { revision_date: known.revision_date, package: Ok(record.clone()) }));
            self.forget_published(revision, platform, &name);
            known.packages.insert(name, Ok(Arc::new(record)));
        }
        self.remember(records).await
    }

    /// Realises packages and reads their closures and contents.
    async fn realise(
        &self,
        packages: Vec<(PackageName, Package)>,
        platform: Platform,
        progress: &Progress,
    ) -> Result<(Option<GcRoot>, Vec<(PackageName, Result<PackageRecord, PackageProblem>)>), BuildError> {
        if packages.is_empty() {
            return Ok((None, Vec::new()));
        }
        let wanted: Vec<_> = packages.iter().map(|(_, package)| package).collect();
        let realising = self.nix.realise(&wanted, progress.audience(), |line| progress.nix_line(line));
        let (realised, early) = tokio::join!(realising, self.closures_in_store(&wanted));
        let (mut hopeless, mut invalid) = (Vec::new(), HashSet::new());
        let is_built = |package: &Package, invalid: &HashSet<StorePath>| {
            package.outputs.iter().all(|output| !invalid.contains(&output.path))
        };
        let root = match realised {
            Ok(root) => Some(root),
            Err(RealiseError::Hopeless { faults, source }) => {
                tell_builders(progress);
                tracing::info!(error = %chain(&source), "packages cannot be realised");
                invalid = self.nix.invalid(&outputs_of(wanted.iter().copied())).await?;
                let good: Vec<_> = wanted.into_iter().filter(|package| is_built(package, &invalid)).collect();
                if good.len() == packages.len() {
                    return Err(RealiseError::Hopeless { faults, source }.into());
                }
                hopeless = faults;
                // They are there already; this only roots them.
                if good.is_empty() {
                    None
                } else {
                    Some(self.nix.realise(&good, progress.audience(), |_| {}).await?)
                }
            }
            Err(error) => {
                tell_builders(progress);
                return Err(error.into());
            }
        };
        let built = packages.iter().map(|(_, package)| package);
        let outputs = outputs_of(built.filter(|package| is_built(package, &invalid)));
        let infos = match early {
            Some(infos) => infos,
            None if outputs.is_empty() => Vec::new(),
            None => self.nix.requisites(&outputs).await?,
        };
        let infos: BTreeMap<StorePath, PathInfo> =
            infos.into_iter().map(|info| (info.path.clone(), info)).collect();
        let (built, failed): (Vec<_>, Vec<_>) =
            packages.into_iter().partition(|(_, package)| is_built(package, &invalid));
        let failed = failed.into_iter().map(|(name, package)| {
            let blame = blame(&hopeless, &package).unwrap_or(Blame::Output);
            (name, Err(not_built(&self.nix, blame, platform, progress)))
        });
        let mut records: Vec<_> = failed.collect();
        // It can be a million files.
        let reading = tokio::task::spawn_blocking(move || {
            built.into_iter().map(|(name, package)| Ok((name, record(package, &infos)?))).collect()
        });
        let read: Result<Vec<_>, BuildError> = reading.await.expect("reading does not panic");
        records.extend(read?);
        Ok((root, records))
    }

    /// The closures of packages that are in the store already. Read while Nix still roots them, which saves the
    /// time of two processes; a store path keeps its references, so rooting changes nothing about them.
    async fn closures_in_store(&self, packages: &[&Package]) -> Option<Vec<PathInfo>> {
        let outputs = outputs_of(packages.iter().copied());
        if outputs.iter().any(|output| Path::new(output.as_str()).symlink_metadata().is_err()) {
            return None;
        }
        // What is there and not valid is read again when it has been realised.
        self.nix.requisites(&outputs).await.ok()
    }
}

/// Logs what builders printed last.
fn tell_builders(progress: &Progress) {
    for (drv, lines) in progress.log().builds() {
        let lines: Vec<_> = lines.collect();
        if !lines.is_empty() {
            tracing::info!(drv, log = lines.join("\n"), "builder output");
        }
    }
}

/// What is to blame that there is no such package: what failed of itself, else what failed first, on which it may
/// depend.
fn blame(faults: &[Fault], package: &Package) -> Option<Blame> {
    let is_about_it = |fault: &&Fault| {
        fault.is_about(&package.drv) || package.outputs.iter().any(|output| fault.is_about(&output.path))
    };
    faults.iter().find(is_about_it).or(faults.first()).map(|fault| fault.blame)
}

fn outputs_of<'a>(packages: impl IntoIterator<Item = &'a Package>) -> Vec<StorePath> {
    let outputs = packages.into_iter().flat_map(|package| &package.outputs);
    outputs.map(|output| output.path.clone()).collect()
}

/// Everything that a realised package brings to an image.
fn record(
    package: Package,
    infos: &BTreeMap<StorePath, PathInfo>,
) -> Result<Result<PackageRecord, PackageProblem>, BuildError> {
    let mut closure: BTreeMap<&StorePath, &PathInfo> = BTreeMap::new();
    let mut next: Vec<&StorePath> = package.outputs.iter().map(|output| &output.path).collect();
    while let Some(path) = next.pop() {
        // What is missing shows when the closure is put together.
        if let Some(info) = infos.get(path)
            && closure.insert(path, info).is_none()
        {
            next.extend(&info.references);
        }
    }
    let links = Links::new(Path::new(STORE_DIR), closure.keys().copied());
    let first = |has: &dyn Fn(&StorePath) -> Result<bool, ListingError>| {
        for path in closure.keys().copied() {
            if has(path)? {
                return Ok(Some(path.clone()));
            }
        }
        Ok::<_, ListingError>(None)
    };
    let program = |name| first(&|path| listing::has_program(path, name, &links));
    let files = || {
        let listing = listing::read(package.outputs.iter().map(|output| &output.path), &links)?;
        let zoneinfo = first(&|path| listing::has_directory(path, "share/zoneinfo", &links))?;
        Ok::<_, ListingError>((listing, program("sh")?, program("env")?, zoneinfo))
    };
    let (listing, sh, env, zoneinfo) = match files() {
        Ok(files) => files,
        Err(error @ ListingError::TooLarge) => {
            return Ok(Err(PackageProblem::new(ProblemKind::BuildError, error.to_string())));
        }
        Err(ListingError::Read { path, source }) => return Err(BuildError::Read { path, source }),
    };
    let closure = closure.into_values().cloned().collect();
    Ok(Ok(PackageRecord { package, closure, listing, sh, env, zoneinfo, decided: BTreeMap::new() }))
}

fn not_built(nix: &Nix, blame: Blame, platform: Platform, progress: &Progress) -> PackageProblem {
    let message = match blame {
        Blame::Builder => format!("its builder fails, see /builds/{} for what it says", progress.id()),
        Blame::Time => {
            let limit = nix.build_timeout().as_secs();
            format!("building it took longer than the {limit} s that this registry allows")
        }
        Blame::Output => {
            "its builder does not make what it promises; the registry's operator finds the reason in the log"
                .to_owned()
        }
        Blame::Hash => {
            "something that is downloaded to build it has another hash than the package set says; the registry's operator finds the reason in the log"
                .to_owned()
        }
        Blame::Derivation => {
            "Nix cannot build what its expression describes; the registry's operator finds the reason in the log"
                .to_owned()
        }
        Blame::Machine => format!(
            "it has to be built, and this registry has no machine that builds for {} and has what it needs",
            platform.system()
        ),
    };
    PackageProblem::new(ProblemKind::BuildError, message)
}
