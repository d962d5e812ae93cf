//! What a package brings to an image: its closure, its files, and a few programs that images look for.

use super::{
    PackageError,
    files::Files,
    links::Links,
    listing::{self, ListingError},
};
use firn_shared::{
    StorePath,
    naming::package::{Package, PackageProblem, PackageRecord, ProblemKind},
    nix::{closure::PathInfo, store_path::STORE_DIR},
};
use std::collections::BTreeMap;
use std::path::Path;

/// Everything that a package brings to an image; a problem if the package has too many files. `closure` is its closure, whose
/// files are in `files`.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn read(
    package: Package,
    closure: Vec<PathInfo>,
    files: &dyn Files,
) -> Result<Result<PackageRecord, PackageProblem>, PackageError> {
    let links = Links::new(files, Path::new(STORE_DIR), closure.iter().map(|info| &info.path));
    let first = |has: &dyn Fn(&StorePath) -> Result<bool, ListingError>| {
        for path in closure.iter().map(|info| &info.path) {
            if has(path)? {
                return Ok(Some(path.clone()));
            }
        }
        Ok::<_, ListingError>(None)
    };
    let program = |name| first(&|path| listing::has_program(path, name, &links));
    let read = || {
        let listing = listing::read(package.outputs.iter().map(|output| &output.path), &links)?;
        let zoneinfo = first(&|path| listing::has_directory(path, "share/zoneinfo", &links))?;
        Ok::<_, ListingError>((listing, program("sh")?, program("env")?, zoneinfo))
    };
    let (listing, sh, env, zoneinfo) = match read() {
        Ok(files) => files,
        Err(error @ ListingError::TooLarge) => {
            return Ok(Err(PackageProblem::new(ProblemKind::BuildError, error.to_string())));
        }
        Err(ListingError::Read { path, source }) => return Err(PackageError::Read { path, source }),
    };
    Ok(Ok(PackageRecord { package, closure, listing, sh, env, zoneinfo, decided: BTreeMap::new() }))
}

/// The closure of a package, sorted. `infos` are the store paths of its closure, and maybe others.
pub(super) fn closure(package: &Package, infos: &BTreeMap<StorePath, PathInfo>) -> Vec<PathInfo> {
    let mut closure: BTreeMap<&StorePath, &PathInfo> = BTreeMap::new();
    let mut next: Vec<&StorePath> = package.outputs.iter().map(|output| &output.path).collect();
    while let Some(path) = next.pop() {
        // `Closure::new` finds out if a path is missing.
        if let Some(info) = infos.get(path)
            && closure.insert(path, info).is_none()
        {
            next.extend(&info.references);
        }
    }
    closure.into_values().cloned().collect()
}
