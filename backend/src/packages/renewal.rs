//! Replacing records of packages that contradict each other or the Nix store.

use super::{
    Known, PackageError, Packages,
    closures::{Closures, Origin},
    evaluations::Wanted,
};
use crate::{
    store::NameRecord,
    waiting::{Phase, Progress},
};
use firn_shared::{
    Closure,
    image::{
        selection::SelectionError,
        settlement::{self, Settlement},
    },
    naming::{
        image_name::ImageName,
        package::{PackageRecord, Resolution},
        package_name::PackageName,
        package_source::Revision,
    },
    nix::closure::ClosureError,
    oci::platform::Platform,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Packages {
    /// Makes the records of an image's packages agree about the store paths that they share, by what they say.
    ///
    /// # Errors
    /// The outer one when the store fails. The inner one when the records do not say enough: the Nix store must be
    /// looked at ([`Packages::renew`]).
    pub(crate) async fn settle(
        &self,
        name: &ImageName,
        revision: &Revision,
        platform: Platform,
        known: &mut Known,
    ) -> Result<Result<(), ClosureError>, PackageError> {
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
        self.replace(revision, platform, known, renewed.collect()).await?;
        Ok(Ok(()))
    }

    /// Realises the packages of an image again, with new derivations if the old ones are gone, and records anew what they
    /// are: a store path that is built again may have other bytes. They stay in the Nix store like packages that were
    /// never known before.
    ///
    /// # Errors
    /// As [`Packages::find`].
    pub(crate) async fn renew(
        &self,
        name: &ImageName,
        revision: &Revision,
        platform: Platform,
        known: &mut Known,
        progress: &Progress,
    ) -> Result<(), PackageError> {
        let before: BTreeMap<_, _> = known.selected(name)?.into_iter().collect();
        progress.enter(Phase::Resolving);
        let names = before.keys().cloned().collect();
        let (trust, audience) = (self.trust(revision), progress.audience());
        let wanted = Wanted { revision, trust, platform, names, requested: &BTreeSet::new() };
        let resolved = self.resolve(wanted, audience).await?;
        if !resolved.undecided.is_empty() {
            return Err(self.undecided(resolved.undecided));
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
        let origin = Origin { revision, trust, platform };
        let Closures { root, held, packages } = self.closures(origin, packages, progress).await?;
        let mut closed = Vec::new();
        for (name, package) in packages {
            match package {
                Ok(package) => closed.push((name, package)),
                Err(problem) => problems.push((name, problem)),
            }
        }
        let described = self.described(closed).await?;
        let records: Vec<&PackageRecord> = before.values().map(Arc::as_ref).collect();
        let mut renewed = Vec::new();
        for (name, package) in described {
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
        self.replace(revision, platform, known, renewed).await?;
        (known.root, known.held) = (root, held);
        Ok(())
    }

    /// Replaces records.
    async fn replace(
        &self,
        revision: &Revision,
        platform: Platform,
        known: &mut Known,
        renewed: Vec<(PackageName, PackageRecord)>,
    ) -> Result<(), PackageError> {
        let mut records = Vec::new();
        for (name, record) in renewed {
            let key = self.key(revision, platform, &name);
            let package = Ok(record.clone());
            records.push((key, NameRecord { revision_date: known.revision_date, package }));
            known.renewed.insert(name.clone());
            known.packages.insert(name, Ok(Arc::new(record)));
        }
        self.put_records(records).await
    }
}
