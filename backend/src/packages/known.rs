//! What Firn knows of the names of one image.

use crate::{nix::GcRoot, package_set::Trust};
use firn_shared::{
    StorePath,
    image::selection::{SelectionError, select},
    naming::{
        image_name::ImageName,
        package::{Package, PackageProblem, PackageRecord},
        package_name::PackageName,
    },
    oci::digest::NarHash,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The packages behind the names of an image, or why there are none.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// When the revision was committed, in seconds since 1970.
    pub(crate) revision_date: Option<i64>,
    pub(super) packages: HashMap<PackageName, Result<Arc<PackageRecord>, PackageProblem>>,
    /// Keeps in the Nix store what was realised just now, until its layers are packed.
    pub(super) root: Option<GcRoot>,
    /// What the root keeps, with the content that is there.
    pub(super) held: HashMap<StorePath, NarHash>,
    /// The names of packages of which the closure is known, and not what is in their files.
    pub(super) undescribed: BTreeSet<PackageName>,
    /// The names whose records were replaced.
    pub(super) renewed: BTreeSet<PackageName>,
}

impl Known {
    /// Lets Nix delete what was realised.
    pub(crate) fn let_go(&mut self) {
        self.root = None;
        self.held.clear();
    }

    /// The store paths that stay in the Nix store until [`Known::let_go`], with the content that is there.
    pub(crate) fn held(&self) -> &HashMap<StorePath, NarHash> {
        &self.held
    }

    /// Whether it is known of all packages what is in their files.
    pub(crate) fn is_described(&self) -> bool {
        self.undescribed.is_empty()
    }

    /// What is known of a name. Every name that was asked for is there.
    pub(crate) fn package(&self, name: &PackageName) -> Result<Arc<PackageRecord>, PackageProblem> {
        self.packages.get(name).cloned().expect("all names were looked up")
    }

    /// The names whose records were replaced since this was last asked.
    pub(crate) fn take_renewed(&mut self) -> BTreeSet<PackageName> {
        std::mem::take(&mut self.renewed)
    }

    /// The packages of an image.
    pub(super) fn selected(
        &self,
        name: &ImageName,
    ) -> Result<Vec<(PackageName, Arc<PackageRecord>)>, SelectionError> {
        type Named = (PackageName, Arc<PackageRecord>);
        let is_same = |(_, one): &Named, (_, other): &Named| one.is_same(other);
        let selected = select(name, is_same, |package| Ok((package.clone(), self.package(package)?)))?;
        Ok(selected.into_iter().map(|selected| selected.package).collect())
    }

    /// The requested names that have no package: without them there is no image.
    pub(super) fn hopeless(&self, requested: &BTreeSet<PackageName>) -> Vec<(PackageName, PackageProblem)> {
        let problem = |name: &PackageName| Some(self.packages.get(name)?.as_ref().err()?.clone());
        requested.iter().filter_map(|name| Some((name.clone(), problem(name)?))).collect()
    }
}

/// What is known of the names of an image before Nix is asked.
#[derive(Debug)]
pub(crate) struct Recalled {
    /// Whose code the revision was at the time of the lookup.
    pub(super) trust: Trust,
    pub(super) known: Known,
    /// The packages that were resolved a while ago and have not been realised.
    pub(super) resolved: Vec<(PackageName, Package)>,
    pub(super) unknown: BTreeSet<PackageName>,
}

impl Recalled {
    /// Whether Nix has nothing to do.
    pub(crate) fn is_complete(&self) -> bool {
        self.resolved.is_empty() && self.unknown.is_empty()
    }

    /// What is known, if that is all there is to know.
    pub(crate) fn complete(self) -> Option<Known> {
        self.is_complete().then_some(self.known)
    }
}
