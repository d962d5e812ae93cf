//! Finding the packages of an image: on record, or with Nix.

use super::{
    Known, PackageError, Packages, Recalled,
    closures::{Closures, Origin},
    evaluations::Wanted,
};
use crate::{
    package_set::Trust,
    store::{LOOKUPS, NameRecord, RecordKind},
    waiting::{Phase, Progress},
};
use firn_shared::{
    cache_key::CacheKey,
    image::selection::SelectionError,
    naming::{
        package::{Package, ProblemKind, Resolution},
        package_name::PackageName,
        package_source::Revision,
    },
    oci::platform::Platform,
};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Packages {
    /// What is known of these names without asking Nix.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn recall(
        &self,
        revision: &Revision,
        trust: Trust,
        platform: Platform,
        names: BTreeSet<PackageName>,
    ) -> Result<Recalled, PackageError> {
        let key = |name: &PackageName| self.key(revision, platform, name);
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
            stream::iter(lookups).buffered(LOOKUPS).try_collect().await.map_err(PackageError::Store)?;
        let known = &mut recalled.known;
        for (name, record) in found {
            if let Some(record) = record {
                known.revision_date = known.revision_date.or(record.revision_date);
                known.packages.insert(name, record.package.map(Arc::new));
            } else if let Some((revision_date, package)) = self.evaluations.package(&key(&name)) {
                known.revision_date = known.revision_date.or(revision_date);
                recalled.resolved.push((name, package));
            } else {
                recalled.unknown.insert(name);
            }
        }
        Ok(recalled)
    }

    /// All that is known of the names of an image. Nix is asked only about names that were never seen at this revision.
    /// `requested` are the names without which there is no image; the others are optional. With binary caches, packages that were
    /// not on record are not described yet ([`Known::is_described`]).
    ///
    /// # Errors
    /// When a requested name has no package, or Nix or the store fails.
    pub(crate) async fn find(
        &self,
        revision: &Revision,
        platform: Platform,
        recalled: Recalled,
        requested: &BTreeSet<PackageName>,
        progress: &Progress,
    ) -> Result<Known, PackageError> {
        if recalled.is_complete() {
            return Ok(recalled.known);
        }
        let Recalled { trust, mut known, resolved: mut packages, unknown } = recalled;
        // Nothing is evaluated for an image with a name that spoils evaluations.
        let hopeless = known.hopeless(requested);
        if hopeless.iter().any(|(_, problem)| problem.kind == ProblemKind::EvalError) {
            return Err(SelectionError(hopeless).into());
        }
        let mut undecided = BTreeSet::new();
        if !unknown.is_empty() {
            progress.enter(Phase::Resolving);
            let audience = progress.audience();
            let wanted = Wanted { revision, trust, platform, names: unknown, requested };
            let resolved = self.resolve(wanted, audience).await?;
            known.revision_date = resolved.revision_date.or(known.revision_date);
            undecided = resolved.undecided;
            let key = |name: &PackageName| self.key(revision, platform, name);
            let resolutions = resolved.packages.into_iter();
            packages.extend(self.note(trust, &mut known, requested, resolutions, key).await?);
        }
        // Nothing is realised for an image that there cannot be.
        let hopeless = known.hopeless(requested);
        if !hopeless.is_empty() {
            return Err(SelectionError(hopeless).into());
        }
        if !undecided.is_empty() {
            return Err(self.undecided(undecided));
        }
        let origin = Origin { revision, trust, platform };
        let Closures { root, held, packages } = self.closures(origin, packages, progress).await?;
        (known.root, known.held) = (root, held);
        for (name, closed) in packages {
            match closed {
                Ok(closed) => {
                    known.undescribed.insert(name.clone());
                    known.packages.insert(name, Ok(Arc::new(closed.undescribed())));
                }
                Err(problem) => {
                    self.problems
                        .insert(trust.failure_key(self.key(revision, platform, &name)), problem.clone());
                    known.packages.insert(name, Err(problem));
                }
            }
        }
        // Without caches nothing has to be downloaded for it.
        if !self.paths.has_caches() {
            self.describe(revision, platform, &mut known).await?;
        }
        Ok(known)
    }

    /// Remembers which of the resolved names have no package, and returns the packages of the others.
    async fn note(
        &self,
        trust: Trust,
        known: &mut Known,
        requested: &BTreeSet<PackageName>,
        resolutions: impl Iterator<Item = (PackageName, Resolution)>,
        key: impl Fn(&PackageName) -> CacheKey,
    ) -> Result<Vec<(PackageName, Package)>, PackageError> {
        let (mut packages, mut implied, mut noticed) = (Vec::new(), Vec::new(), Vec::new());
        for (name, resolution) in resolutions {
            match resolution {
                Resolution::Ok(package) => packages.push((name, package)),
                Resolution::Problem(problem) => {
                    let problem = problem.settle(&name);
                    // An image name implies the same few names again and again, so that it pays to record that they are
                    // missing. The names that people make up must not fill the store. A failure under restrictions
                    // must not be believed where there are none.
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
        self.put_records(implied).await?;
        // Only now: the next build finds a record that is half written to be invalid, and replaces it.
        noticed.into_iter().for_each(|(key, problem)| self.problems.insert(key, problem));
        Ok(packages)
    }

    /// Writes records, all at once: `store/files.rs` has the reason.
    pub(super) async fn put_records(&self, records: Vec<(CacheKey, NameRecord)>) -> Result<(), PackageError> {
        let writes: Vec<_> = records
            .iter()
            .map(|(key, record)| self.store.put_record(RecordKind::Package, key, record))
            .collect();
        Ok(stream::iter(writes).buffer_unordered(LOOKUPS).try_collect().await?)
    }
}
