//! Describing packages: what is in their files, once their closures are known.

use super::{
    Known, PackageError, Packages,
    closures::Closed,
    contents,
    files::{Disk, Trees},
};
use crate::store::NameRecord;
use firn_shared::{
    StorePath,
    naming::{
        package::{PackageProblem, PackageRecord},
        package_name::PackageName,
        package_source::Revision,
    },
    nix::{closure::PathInfo, listing::Listing, store_path::STORE_DIR},
    oci::platform::Platform,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

impl Closed {
    /// What layers are planned of: the package without its files.
    pub(super) fn undescribed(self) -> PackageRecord {
        let Self { package, closure } = self;
        let listing = Listing::default();
        PackageRecord {
            package,
            closure,
            listing,
            sh: None,
            env: None,
            zoneinfo: None,
            decided: BTreeMap::new(),
        }
    }
}

impl Packages {
    /// Describes and records the packages of which only the closures are known. Reads trees that are not on record.
    ///
    /// # Errors
    /// When files cannot be read, or the store fails.
    pub(crate) async fn describe(
        &self,
        revision: &Revision,
        platform: Platform,
        known: &mut Known,
    ) -> Result<(), PackageError> {
        let names = std::mem::take(&mut known.undescribed);
        let closed = |name: PackageName| {
            let record = known.packages.get(&name)?.as_ref().ok()?;
            let closed = Closed { package: record.package.clone(), closure: record.closure.clone() };
            Some((name, closed))
        };
        let closed: Vec<_> = names.into_iter().filter_map(closed).collect();
        let trust = self.trust(revision);
        let mut records = Vec::new();
        for (name, package) in self.described(closed).await? {
            let key = self.key(revision, platform, &name);
            match &package {
                Ok(record) => {
                    let (revision_date, package) = (known.revision_date, Ok(record.clone()));
                    records.push((key, NameRecord { revision_date, package, trust: self.cache_trust() }));
                }
                Err(problem) => self.problems.insert(trust.failure_key(key), problem.clone()),
            }
            known.packages.insert(name, package.map(Arc::new));
        }
        self.put_records(records).await
    }

    /// What these packages bring to images.
    pub(super) async fn described(
        &self,
        packages: Vec<(PackageName, Closed)>,
    ) -> Result<Vec<(PackageName, Result<PackageRecord, PackageProblem>)>, PackageError> {
        // Without caches every path is in the Nix store, and only few of its files have to be looked at.
        let trees = match self.paths.has_caches() {
            false => None,
            true => {
                let infos = packages.iter().flat_map(|(_, closed)| &closed.closure);
                let infos: BTreeMap<&StorePath, &PathInfo> = infos.map(|info| (&info.path, info)).collect();
                let infos: Vec<PathInfo> = infos.into_values().cloned().collect();
                Some(Trees::new(Path::new(STORE_DIR), self.paths.trees(&infos).await?))
            }
        };
        // It can be a million files.
        let reading = tokio::task::spawn_blocking(move || {
            let read = |(name, Closed { package, closure })| {
                let contents = match &trees {
                    Some(trees) => contents::read(package, closure, trees)?,
                    None => contents::read(package, closure, &Disk)?,
                };
                Ok((name, contents))
            };
            packages.into_iter().map(read).collect()
        });
        reading.await.expect("reading does not panic")
    }
}
