//! What is known of a package: what the resolver says of a name, and what realising it has shown.

use crate::{StorePath, closure::PathInfo, listing::Listing, package_name::PackageName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The answer of `nix/resolve.nix`: for each name that was asked, a package or what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Resolutions {
    /// By name as asked.
    pub packages: BTreeMap<PackageName, Resolution>,
    /// When the package set's revision was committed, in seconds since 1970, where the source tells.
    #[serde(default)]
    pub revision_date: Option<i64>,
}

/// What one name resolves to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// A package that can be built.
    Ok(Package),
    /// Why there is none.
    Problem(PackageProblem),
}

/// A derivation in the package set, and which of its outputs an image gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// The attribute path in its real spelling, for example `python3Packages.requests`.
    pub attribute: String,
    /// The derivation.
    pub drv: StorePath,
    /// The outputs that go into an image, in order.
    pub outputs: Vec<Output>,
    /// Name with version, for example `git-2.39.5`.
    pub name: String,
    /// Name without version.
    #[serde(default)]
    pub pname: Option<String>,
    /// Version.
    #[serde(default)]
    pub version: Option<String>,
    /// Licences, by SPDX identifier where there is one.
    #[serde(default)]
    pub license: Vec<String>,
    /// The program that `nix run` would start.
    #[serde(default)]
    pub main_program: Option<String>,
    /// One line of description.
    #[serde(default)]
    pub description: Option<String>,
    /// Home page.
    #[serde(default)]
    pub homepage: Option<String>,
}

/// One output of a derivation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// `out`, `bin`, `dev`, …
    pub name: String,
    /// Where it is, or will be.
    pub path: StorePath,
}

/// Why a name is no package that can be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageProblem {
    /// What kind of problem.
    pub kind: ProblemKind,
    /// One sentence, from the expressions in `nix/`; never Nix's own stderr.
    pub message: String,
    /// For [`ProblemKind::NotFound`] the names that there are; for [`ProblemKind::Ambiguous`] those that fit.
    #[serde(default)]
    pub candidates: Vec<String>,
}

/// The kinds of problem that a package can have. All of them are the same at the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// No such attribute.
    NotFound,
    /// Several attributes differ only by case.
    Ambiguous,
    /// A licence that the operator has not allowed.
    Unfree,
    /// Marked as broken.
    Broken,
    /// Known vulnerabilities.
    Insecure,
    /// Not for this platform.
    UnsupportedSystem,
    /// A set of packages, a function, a text: nothing that can be installed.
    NotAPackage,
    /// Its expression fails to evaluate.
    EvalError,
    /// Its builder fails.
    BuildError,
}

/// A package that has been realised at least once: all that composing an image needs of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageRecord {
    /// What the resolver said.
    pub package: Package,
    /// The requisites of the outputs.
    pub closure: Vec<PathInfo>,
    /// What lies below each of the package's outputs, in their order.
    pub listings: Vec<Listing>,
    /// The first path of the closure that has `bin/sh`.
    pub sh: Option<StorePath>,
    /// The first path of the closure that has `bin/env`.
    pub env: Option<StorePath>,
}

impl Package {
    /// What `nix run` would start: the main program, else the name without version.
    pub fn program(&self) -> &str {
        self.main_program.as_deref().or(self.pname.as_deref()).unwrap_or(&self.name)
    }
}

impl PackageProblem {
    /// How many names a message suggests.
    const SUGGESTIONS: usize = 3;
    /// Below this Damerau-Levenshtein similarity a suggestion confuses more than it helps.
    const SIMILAR: f64 = 0.6;

    /// The same without the candidates, which may be all names of a package set.
    pub fn brief(&self) -> Self {
        Self { candidates: Vec::new(), ..self.clone() }
    }

    /// A sentence for the person who asked for `name`, with the nearest names where there are such.
    pub fn explain(&self, name: &PackageName) -> String {
        let list = |names: Vec<&str>| names.join(", ");
        match self.kind {
            ProblemKind::NotFound => match self.nearest(name).as_slice() {
                [] => format!("there is no package {name} in the package set"),
                near => format!(
                    "there is no package {name} in the package set; did you mean {}?",
                    list(near.iter().map(String::as_str).collect())
                ),
            },
            ProblemKind::Ambiguous => format!(
                "{name} could be any of {}: names that differ only by case cannot be told apart here",
                list(self.candidates.iter().map(String::as_str).collect())
            ),
            _ => format!("{name}: {}", self.message),
        }
    }

    /// The candidates that are most like `name`, best first.
    fn nearest(&self, name: &PackageName) -> Vec<String> {
        let (prefix, last) = match name.as_str().rsplit_once('.') {
            Some((prefix, last)) => (format!("{prefix}."), last),
            None => (String::new(), name.as_str()),
        };
        let mut scored: Vec<(f64, &String)> = self
            .candidates
            .iter()
            .map(|candidate| {
                let lower = candidate.to_ascii_lowercase();
                let contains = lower.contains(last) || (lower.len() > 2 && last.contains(&lower));
                let bonus = if contains { 0.3 } else { 0.0 };
                (strsim::normalized_damerau_levenshtein(last, &lower) + bonus, candidate)
            })
            .filter(|(score, _)| *score >= Self::SIMILAR)
            .collect();
        scored.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.cmp(y)));
        scored
            .iter()
            .take(Self::SUGGESTIONS)
            .map(|(_, candidate)| format!("{prefix}{}", candidate.to_ascii_lowercase()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_found(candidates: &[&str]) -> PackageProblem {
        PackageProblem {
            kind: ProblemKind::NotFound,
            message: String::new(),
            candidates: candidates.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn suggests_near_names() {
        let problem = not_found(&["git", "gitFull", "htop", "hello", "nginx", "python3"]);
        let check = |name: &str, expect: &str| {
            let text = problem.explain(&name.parse().expect("a name"));
            assert!(text.ends_with(expect), "{text}");
        };
        check("gti", "did you mean git?");
        check("helo", "did you mean hello?");
        check("python", "did you mean python3?");
        check("zzzzzz", "there is no package zzzzzz in the package set");
    }

    #[test]
    fn reads_what_the_resolver_prints() {
        let json = r#"{"packages":{
            "git":{"ok":{"attribute":"git","drv":"/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-git.drv",
              "outputs":[{"name":"out","path":"/nix/store/qnikzm2hw7glz47yfby8byy4p2hvnckn-git"}],
              "name":"git-2","pname":null,"version":"2","license":["GPL-2.0-only"],"main_program":"git",
              "description":null,"homepage":null}},
            "gti":{"problem":{"kind":"not_found","message":"no","candidates":["git"]}}},
            "revision_date":null}"#;
        let resolutions: Resolutions = serde_json::from_str(json).expect("parses");
        assert!(matches!(
            &resolutions.packages[&"git".parse().expect("a name")],
            Resolution::Ok(package) if package.program() == "git"
        ));
        for bad in [
            json.replace("/nix/store/qnik", "/etc/qnik"),
            json.replace("not_found", "unknown_kind"),
            json.replace("\"gti\"", "\"--option\""),
        ] {
            assert!(serde_json::from_str::<Resolutions>(&bad).is_err());
        }
    }
}
