//! Selects the packages of an image from the resolved names.

use crate::naming::{
    image_name::{ImageName, Shows},
    package::{PackageProblem, ProblemKind, Words},
    package_name::PackageName,
};
use std::collections::BTreeSet;

/// A package that goes into an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected<T> {
    /// The package.
    pub package: T,
    /// Whether the image name spells the package out instead of implying it.
    pub requested: bool,
    /// Which of the package's files appear at the root of the image.
    pub shows: Shows,
}

impl<T> Selected<T> {
    /// The same selection, with a reference to the package.
    pub fn as_deref(&self) -> Selected<&T::Target>
    where
        T: std::ops::Deref,
    {
        self.with(&*self.package)
    }

    /// The same selection, with another view of the package.
    pub fn with<U>(&self, package: U) -> Selected<U> {
        Selected { package, requested: self.requested, shows: self.shows }
    }
}

/// The packages that are not available, each with its problem; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectionError(pub Vec<(PackageName, PackageProblem)>);

/// The packages of an image. If two have a file at the same path, the earlier one wins.
///
/// For each want, the first name that resolves is taken. If no name resolves and the want is not required, it is left
/// out. If `is_same` says that two names are the same package (an alias and its target), only the first is taken.
///
/// # Errors
/// If no name of a required want resolves. The error lists all such wants, so that the user can fix them all at once.
pub fn select<T>(
    image: &ImageName,
    is_same: impl Fn(&T, &T) -> bool,
    mut resolve: impl FnMut(&PackageName) -> Result<T, PackageProblem>,
) -> Result<Vec<Selected<T>>, SelectionError> {
    let mut selected: Vec<Selected<T>> = Vec::new();
    let mut problems = Vec::new();
    let mut taken = BTreeSet::new();
    for want in image.wants() {
        // `shell/coreutils`, for example, spells out a package that it also implies.
        if want.names.iter().any(|name| taken.contains(name)) {
            continue;
        }
        let mut failed = Vec::new();
        let found = want.names.into_iter().find_map(|name| match resolve(&name) {
            Ok(package) => {
                taken.insert(name);
                Some(package)
            }
            Err(problem) => {
                failed.push((name, problem));
                None
            }
        });
        match found {
            // The first one says whether the package was requested, because implied packages come last.
            Some(package) if selected.iter().any(|there| is_same(&there.package, &package)) => {}
            Some(package) => {
                selected.push(Selected { package, requested: want.requested, shows: want.shows });
            }
            None if want.required => {
                // Another problem, such as "broken", is more helpful than "not found" for an alternative name.
                let telling = failed.iter().position(|(_, problem)| problem.kind != ProblemKind::NotFound);
                problems.push(failed.swap_remove(telling.unwrap_or(0)));
            }
            None => {}
        }
    }
    if problems.is_empty() { Ok(selected) } else { Err(SelectionError(problems)) }
}

impl SelectionError {
    /// The message for the client: one sentence for each package.
    pub fn explain(&self, words: Words) -> String {
        let sentences: Vec<_> = self.0.iter().map(|(name, problem)| problem.explain(name, words)).collect();
        sentences.join("; ")
    }

    /// Whether the package set lacks one of the packages, rather than that they cannot be had.
    pub fn is_unknown_name(&self) -> bool {
        self.0.iter().any(|(_, problem)| problem.kind == ProblemKind::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: ProblemKind) -> PackageProblem {
        PackageProblem::new(kind, "is marked as broken")
    }

    fn check(image: &str, known: &[&str]) -> Result<String, String> {
        let image: ImageName = image.parse().expect("an image name");
        let resolve = |name: &PackageName| match name.as_str() {
            "brokenpkg" => Err(problem(ProblemKind::Broken)),
            "alias" => Ok("git".to_owned()),
            "shellalias" => Ok("bash".to_owned()),
            name if known.contains(&name) => Ok(name.to_owned()),
            _ => Err(problem(ProblemKind::NotFound)),
        };
        select(&image, PartialEq::eq, resolve)
            .map(|selected| selected.into_iter().map(|s| s.package).collect::<Vec<_>>().join(" "))
            .map_err(|error| error.explain(Words::Shown))
    }

    #[test]
    fn takes_alternatives_and_leaves_out_what_is_optional() {
        let small = ["bash", "coreutils", "git"];
        assert_eq!(check("shell/git", &small).as_deref(), Ok("git bash coreutils"));
        let large = ["bash", "bashinteractive", "coreutils", "nano", "cacert", "iana-etc", "git"];
        assert_eq!(
            check("shell/git", &large).as_deref(),
            Ok("git bashinteractive coreutils nano cacert iana-etc")
        );
    }

    #[test]
    fn no_package_is_taken_twice() {
        let small = ["bash", "coreutils"];
        assert_eq!(check("shell/coreutils", &small).as_deref(), Ok("coreutils bash"));
        assert_eq!(check("shell/bash/coreutils", &small).as_deref(), Ok("bash coreutils"));
    }

    #[test]
    fn a_requested_package_shows_all_of_its_files() {
        let shows = |image: &str| {
            let image: ImageName = image.parse().expect("an image name");
            let selected = select(&image, |a: &String, b| a == b, |name| Ok(name.to_string()))
                .expect("everything is there");
            let found = selected.into_iter().find(|selected| selected.package == "iana-etc");
            found.expect("it is in every image").shows
        };
        assert_eq!(shows("git"), Shows::Only(&["etc/protocols", "etc/services"]));
        assert_eq!(shows("git/iana-etc"), Shows::Everything);
    }

    #[test]
    fn takes_a_package_with_two_names_once() {
        let known = ["bash", "coreutils", "git"];
        assert_eq!(check("alias/git", &known).as_deref(), Ok("git"));
        assert_eq!(check("shell/shellalias", &known).as_deref(), Ok("bash coreutils"));
        let image: ImageName = "shell/shellalias".parse().expect("an image name");
        let all = select(&image, |_: &(), &()| true, |_| Ok(())).expect("all there");
        assert_eq!(all, [Selected { package: (), requested: true, shows: Shows::Everything }]);
    }

    #[test]
    fn names_everything_that_is_missing() {
        assert_eq!(
            check("brokenpkg/htop", &[]),
            Err("brokenpkg: is marked as broken; there is no package htop in the package set".into())
        );
        assert!(check("shell", &["coreutils"]).is_err());
    }
}
