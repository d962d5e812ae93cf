//! What is known of a package: what the resolver says of a name, and what realising it has shown.

use crate::{
    StorePath,
    layering::Part,
    naming::{
        name_index::{NameIndex, as_asked},
        nearest::nearest,
        package_name::PackageName,
        reason::Reason,
    },
    nix::{
        closure::{Closure, PathInfo},
        listing::Listing,
    },
};
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
    /// One sentence, from the expressions in `nix/` or from Firn; nothing of what the package set says.
    pub message: String,
    /// What the package set says about it: the text of a `throw`, licences, vulnerabilities. For whoever may see that;
    /// see [`Words`].
    #[serde(default, deserialize_with = "reason_if_any")]
    pub reason: Option<Reason>,
    /// For [`ProblemKind::NotFound`] the names that there are; for [`ProblemKind::Ambiguous`] those that fit.
    #[serde(default)]
    pub candidates: Vec<String>,
    /// For [`ProblemKind::NotFound`] the attribute path that was found, in which the next component was not.
    #[serde(default)]
    pub prefix: String,
    /// The names that may have been meant, best first; see [`PackageProblem::settle`].
    #[serde(default)]
    pub near: Vec<String>,
}

/// Whether an answer may hold what a package set says in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// It may: the revision is the one that the operator configured.
    Shown,
    /// It may not: a revision that callers chose can be anybody's code, and its words anything that this code can read.
    Hidden,
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
    /// What lies below the package's outputs.
    pub listing: Listing,
    /// The first path of the closure that has `bin/sh`.
    pub sh: Option<StorePath>,
    /// The first path of the closure that has `bin/env`.
    pub env: Option<StorePath>,
    /// The first path of the closure that has `share/zoneinfo`.
    pub zoneinfo: Option<StorePath>,
    /// How often it was decided which content a path has, for those paths of the closure that were found to have
    /// several; see [`crate::image::settlement`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decided: BTreeMap<StorePath, u32>,
}

impl Package {
    /// What `nix run` would start: the main program, else the name without version.
    pub fn program(&self) -> &str {
        self.main_program.as_deref().or(self.pname.as_deref()).unwrap_or(&self.name)
    }
}

impl PackageRecord {
    /// Whether it is the same package under another name: the same outputs of one derivation.
    pub fn is_same(&self, other: &Self) -> bool {
        self.package.outputs == other.package.outputs
    }

    /// The package as a part of an image with this closure.
    pub fn part(&self, closure: &Closure, implied: bool) -> Part {
        Part::new(closure, self.package.outputs.iter().map(|output| &output.path), implied)
    }
}

impl PackageProblem {
    /// How many names a message suggests.
    const SUGGESTIONS: usize = 3;

    /// A problem of this kind that comes with no names.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        let (reason, candidates, prefix, near) = Default::default();
        Self { kind, message: message.into(), reason, candidates, prefix, near }
    }

    /// The same with only the nearest of the names that there are, which may be all of a package set.
    pub fn settle(mut self, name: &PackageName) -> Self {
        if self.kind == ProblemKind::NotFound {
            self.near = self.near_candidates(name);
            self.candidates = Vec::new();
        }
        self
    }

    /// Whether an index of the whole package set may know better what was meant: nothing of the name was
    /// found, or nothing near it where the search ended.
    pub fn is_unclear(&self) -> bool {
        self.kind == ProblemKind::NotFound && (self.prefix.is_empty() || self.near.is_empty())
    }

    /// Takes suggestions from an index, if it has any.
    pub fn consult(&mut self, index: &NameIndex, name: &PackageName) {
        let found = index.nearest(name.as_str(), Self::SUGGESTIONS);
        if self.is_unclear() && !found.is_empty() {
            self.near = found.into_iter().map(|found| found.name.into()).collect();
        }
    }

    /// A sentence for the person who asked for `name`, with the nearest names where there are such.
    pub fn explain(&self, name: &PackageName, words: Words) -> String {
        let reason = self.reason.as_ref().filter(|_| words == Words::Shown);
        match self.kind {
            ProblemKind::NotFound if self.near.is_empty() => {
                format!("there is no package {name} in the package set")
            }
            ProblemKind::NotFound => {
                format!("there is no package {name} in the package set; did you mean {}?", or(&self.near))
            }
            ProblemKind::Ambiguous => format!(
                "{name} could be any of {}: names that differ only by case cannot be told apart here",
                self.candidates.join(", ")
            ),
            _ => match reason {
                Some(reason) => format!("{name}: {}: {reason}", self.message),
                None => format!("{name}: {}", self.message),
            },
        }
    }

    /// The candidates that are most like the first component of `name` that was not found, each as a whole
    /// name.
    fn near_candidates(&self, name: &PackageName) -> Vec<String> {
        let found = if self.prefix.is_empty() { 0 } else { self.prefix.split('.').count() };
        let components: Vec<&str> = name.as_str().split('.').collect();
        let Some((wanted, rest)) = components.get(found..).and_then(<[_]>::split_first) else {
            return Vec::new();
        };
        let names: Vec<String> = self.candidates.iter().filter_map(|candidate| as_asked(candidate)).collect();
        nearest(wanted, names.iter().map(String::as_str), Self::SUGGESTIONS)
            .into_iter()
            .map(|near| [&components[..found], &[near], rest].concat().join("."))
            .collect()
    }
}

/// A text of which nothing may be shown is the same as none.
fn reason_if_any<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Reason>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| Reason::new(&text, &[]).ok()))
}

/// `a`, `a or b`, `a, b or c`.
fn or(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_found(prefix: &str, candidates: &[&str]) -> PackageProblem {
        PackageProblem {
            candidates: candidates.iter().map(ToString::to_string).collect(),
            prefix: prefix.into(),
            ..PackageProblem::new(ProblemKind::NotFound, "")
        }
    }

    fn name(text: &str) -> PackageName {
        text.parse().expect("a name")
    }

    #[test]
    fn suggests_near_names() {
        let all = ["git", "gitFull", "htop", "hello", "nginx", "python3", "_1password", "python3Packages"];
        let check = |prefix: &str, candidates: &[&str], asked: &str, expect: &str| {
            let text = not_found(prefix, candidates).settle(&name(asked)).explain(&name(asked), Words::Shown);
            assert!(text.ends_with(expect), "{text}");
        };
        check("", &all, "gti", "did you mean git?");
        check("", &all, "helo", "did you mean hello?");
        check("", &all, "python", "did you mean python3 or python3packages?");
        check("", &all, "1passwd", "did you mean 1password?");
        check("", &all, "zzzzzz", "there is no package zzzzzz in the package set");
        check("", &all, "python3package.requests", "did you mean python3packages.requests?");
        check(
            "python3Packages",
            &["PyYAML", "requests"],
            "python3packages.request",
            "did you mean python3packages.requests?",
        );
        check("openssl", &["bin", "dev", "out"], "openssl.dve", "did you mean openssl.dev?");
        check("openssl", &["bin", "dev", "out"], "openssl", "there is no package openssl in the package set");
    }

    #[test]
    fn an_index_knows_nested_names() {
        let names = r#"{"names":{"":["git"],"python3Packages":["requests"]}}"#;
        let index = NameIndex::new(&serde_json::from_str(names).expect("names"));
        let asked = name("requests");
        let mut problem = not_found("", &["git"]).settle(&asked);
        assert!(problem.is_unclear() && problem.candidates.is_empty());
        problem.consult(&index, &asked);
        assert!(problem.explain(&asked, Words::Hidden).ends_with("did you mean python3packages.requests?"));
        // Where the resolver knew where to look, it knows best.
        let asked = name("openssl.gti");
        let mut problem = not_found("openssl", &["git"]).settle(&asked);
        problem.consult(&index, &asked);
        assert_eq!(problem.near, ["openssl.git"]);
    }

    #[test]
    fn a_strangers_words_are_not_shown() {
        let json =
            r#"{"kind":"insecure","message":"‘x’ is marked as insecure","reason":"CVE-1, see /etc/x"}"#;
        let problem: PackageProblem = serde_json::from_str(json).expect("parses");
        let shown = |words| problem.explain(&name("x"), words);
        assert_eq!(shown(Words::Shown), "x: ‘x’ is marked as insecure: CVE-1, see …");
        assert_eq!(shown(Words::Hidden), "x: ‘x’ is marked as insecure");
        let json = json.replace("CVE-1, see /etc/x", "/etc/x");
        let problem: PackageProblem = serde_json::from_str(&json).expect("parses");
        assert_eq!(problem.reason, None);
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
