//! Package data: the resolver's result for a name, and the record of a realised package.

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

/// The output of `nix/resolve.nix`: a package or a problem for each requested name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Resolutions {
    /// The results, by requested name.
    pub packages: BTreeMap<PackageName, Resolution>,
    /// When the package set's revision was committed, in seconds since 1970. `None` if the source does not say.
    #[serde(default)]
    pub revision_date: Option<i64>,
}

/// The result for one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// A package that can be built.
    Ok(Package),
    /// Why there is no such package.
    Problem(PackageProblem),
}

/// A derivation in the package set, with the outputs that go into images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// The attribute path as Nix spells it, for example `python3Packages.requests`.
    pub attribute: String,
    /// The derivation.
    pub drv: StorePath,
    /// The outputs that go into an image, in order.
    pub outputs: Vec<Output>,
    /// The name with version, for example `git-2.39.5`.
    pub name: String,
    /// The name without version.
    #[serde(default)]
    pub pname: Option<String>,
    /// The version.
    #[serde(default)]
    pub version: Option<String>,
    /// The licences, as SPDX identifiers if they have one.
    #[serde(default)]
    pub license: Vec<String>,
    /// The program that `nix run` would start.
    #[serde(default)]
    pub main_program: Option<String>,
    /// One line of description.
    #[serde(default)]
    pub description: Option<String>,
    /// The home page.
    #[serde(default)]
    pub homepage: Option<String>,
}

/// One output of a derivation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The output's name: `out`, `bin`, `dev`, …
    pub name: String,
    /// The output's store path. It may not exist yet.
    pub path: StorePath,
}

/// Why a name cannot be resolved to a package that can be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageProblem {
    /// The kind of problem.
    pub kind: ProblemKind,
    /// One sentence, from the expressions in `nix/` or from Firn. It contains no text of the package set.
    pub message: String,
    /// The package set's own message: the text of a `throw`, licences, vulnerabilities. [`Words`] says when clients may
    /// see it.
    #[serde(default, deserialize_with = "reason_if_any")]
    pub reason: Option<Reason>,
    /// For [`ProblemKind::NotFound`], the names that exist. For [`ProblemKind::Ambiguous`], the names that match.
    #[serde(default)]
    pub candidates: Vec<String>,
    /// For [`ProblemKind::NotFound`], the longest prefix of the attribute path that exists.
    #[serde(default)]
    pub prefix: String,
    /// Names to suggest, best first; see [`PackageProblem::settle`].
    #[serde(default)]
    pub near: Vec<String>,
}

/// Whether a response may contain messages of the package set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// It may, because the operator configured the revision.
    Shown,
    /// It may not, because the client chose the revision. Its code can be anybody's, and its messages can contain
    /// everything that the code can read.
    Hidden,
}

/// The kinds of problem with a package. A problem does not go away when the request is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// There is no such attribute.
    NotFound,
    /// Several attributes match and differ only by case.
    Ambiguous,
    /// The operator has not allowed the package's licence.
    Unfree,
    /// The package is marked as broken.
    Broken,
    /// The package has known vulnerabilities.
    Insecure,
    /// The package does not support this platform.
    UnsupportedSystem,
    /// The attribute is not a package, but for example a set, a function or a string.
    NotAPackage,
    /// The package's expression does not evaluate.
    EvalError,
    /// The package's builder fails.
    BuildError,
}

/// A package that has been realised at least once. The record has everything needed to compose an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageRecord {
    /// The resolver's result.
    pub package: Package,
    /// The closure of the outputs.
    pub closure: Vec<PathInfo>,
    /// The files in the package's outputs.
    pub listing: Listing,
    /// The first path of the closure that has `bin/sh`.
    pub sh: Option<StorePath>,
    /// The first path of the closure that has `bin/env`.
    pub env: Option<StorePath>,
    /// The first path of the closure that has `share/zoneinfo`.
    pub zoneinfo: Option<StorePath>,
    /// For store paths that were found with different contents: how often one content was chosen for the path; see
    /// [`crate::image::settlement`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decided: BTreeMap<StorePath, u32>,
}

impl Package {
    /// The program that `nix run` would start: the main program, else the name without version.
    pub fn program(&self) -> &str {
        self.main_program.as_deref().or(self.pname.as_deref()).unwrap_or(&self.name)
    }
}

impl PackageRecord {
    /// Whether both records are of the same package, that is, have the same outputs. Their names may differ.
    pub fn is_same(&self, other: &Self) -> bool {
        self.package.outputs == other.package.outputs
    }

    /// The package as a part of an image with this closure.
    pub fn part(&self, closure: &Closure, implied: bool) -> Part {
        Part::new(closure, self.package.outputs.iter().map(|output| &output.path), implied)
    }
}

impl PackageProblem {
    /// The greatest number of names that a message suggests.
    const SUGGESTIONS: usize = 3;

    /// A problem of this kind without names.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        let (reason, candidates, prefix, near) = Default::default();
        Self { kind, message: message.into(), reason, candidates, prefix, near }
    }

    /// Replaces `candidates`, which may be all names of a package set, by the names to suggest.
    pub fn settle(mut self, name: &PackageName) -> Self {
        if self.kind == ProblemKind::NotFound {
            self.near = self.near_candidates(name);
            self.candidates = Vec::new();
        }
        self
    }

    /// Whether an index of the whole package set may give better suggestions. That is so if no part of the name exists,
    /// or nothing near the name was found.
    pub fn is_unclear(&self) -> bool {
        self.kind == ProblemKind::NotFound && (self.prefix.is_empty() || self.near.is_empty())
    }

    /// If the problem is unclear, takes the suggestions from an index, if it has any.
    pub fn consult(&mut self, index: &NameIndex, name: &PackageName) {
        let found = index.nearest(name.as_str(), Self::SUGGESTIONS);
        if self.is_unclear() && !found.is_empty() {
            self.near = found.into_iter().map(|found| found.name.to_string()).collect();
        }
    }

    /// A sentence for the client that asked for `name`, with suggestions if there are any.
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
                "{name} matches {}: image names cannot tell apart names that differ only by case",
                self.candidates.join(", ")
            ),
            _ => match reason {
                Some(reason) => format!("{name}: {}: {reason}", self.message),
                None => format!("{name}: {}", self.message),
            },
        }
    }

    /// The candidates that resemble the first missing component of `name` most, each as a whole name.
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

/// Reads a reason. A text of which nothing may be shown counts as none.
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
        // If the resolver found a prefix and near names, its suggestions win.
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
