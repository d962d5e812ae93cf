//! Realising packages with Nix: what no binary cache has. What is said of those that cannot be realised.

use super::{PackageError, Packages};
use crate::{
    error_chain::chain,
    nix::{Blame, Fault, GcRoot, Nix, RealiseError},
    waiting::Progress,
};
use firn_shared::{
    StorePath,
    naming::{
        package::{Package, PackageProblem, ProblemKind},
        package_name::PackageName,
    },
    nix::closure::PathInfo,
    oci::platform::Platform,
};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// Packages that Nix has realised.
pub(super) struct Realised {
    /// Keeps them in the Nix store.
    pub(super) root: Option<GcRoot>,
    /// Their store paths, and all that these refer to.
    pub(super) infos: BTreeMap<StorePath, PathInfo>,
    pub(super) built: Vec<(PackageName, Package)>,
    pub(super) failed: Vec<(PackageName, PackageProblem)>,
}

impl Packages {
    /// Realises packages and reads their closures. The root keeps them in the Nix store.
    ///
    /// # Errors
    /// When Nix fails, and not because of one of the packages: those that cannot be built are problems in the result.
    pub(super) async fn realise(
        &self,
        packages: Vec<(PackageName, Package)>,
        platform: Platform,
        progress: &Progress,
    ) -> Result<Realised, PackageError> {
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
                // They exist already; this makes a GC root of them.
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
            (name, not_built(&self.nix, blame, platform, progress))
        });
        let failed = failed.collect();
        Ok(Realised { root, infos, built, failed })
    }

    /// The closures of packages whose store paths all exist. They are read while Nix still makes the root, which saves the
    /// time of two processes. A root changes nothing about the references of a store path.
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

/// Why a package cannot be built: the failure of one of its own derivations, else the first failure, on which it may
/// depend.
fn blame(faults: &[Fault], package: &Package) -> Option<Blame> {
    let is_about_it = |fault: &&Fault| {
        fault.is_about(&package.drv) || package.outputs.iter().any(|output| fault.is_about(&output.path))
    };
    faults.iter().find(is_about_it).or(faults.first()).map(|fault| fault.blame)
}

pub(super) fn outputs_of<'a>(packages: impl IntoIterator<Item = &'a Package>) -> Vec<StorePath> {
    let outputs = packages.into_iter().flat_map(|package| &package.outputs);
    outputs.map(|output| output.path.clone()).collect()
}

/// What is said of a package that Nix cannot build.
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
