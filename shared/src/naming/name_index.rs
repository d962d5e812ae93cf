//! An index of the names of a package set at one revision, made from the output of `nix/index.nix`, for search and
//! suggestions.

use crate::naming::{nearest::nearest, package_name::PackageName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The output of `nix/index.nix`, which is also stored as a record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The attributes of each set that could be listed, by the set's attribute. The empty key is the package set
    /// itself.
    #[serde(default)]
    pub names: BTreeMap<String, Vec<String>>,
    /// Summaries of the packages at the top level of the package set.
    #[serde(default)]
    pub packages: BTreeMap<String, PackageSummary>,
    /// Whether all top-level attributes were evaluated. If so, an attribute that is neither in `packages` nor a set
    /// cannot be put into an image.
    #[serde(default)]
    pub surveyed: bool,
}

/// What is known about a package without building it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSummary {
    /// The package's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The program that `nix run` would start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_program: Option<String>,
    /// One line of description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The package names of a package set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameIndex {
    /// Attribute paths by package name.
    attributes: HashMap<PackageName, Box<str>>,
    /// Summaries of packages, by attribute path.
    packages: BTreeMap<String, PackageSummary>,
    /// For each main program, the packages that have it, the shortest name first.
    programs: HashMap<Box<str>, Vec<PackageName>>,
}

/// A search result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundName {
    /// The package name, as image names spell it.
    pub name: PackageName,
    /// The attribute path, as Nix spells it.
    pub attribute: String,
    /// What else is known about the package.
    #[serde(flatten)]
    pub summary: PackageSummary,
}

impl Names {
    /// Adds the output for further attributes.
    pub fn merge(&mut self, other: Self) {
        self.names.extend(other.names);
        self.packages.extend(other.packages);
    }
}

impl NameIndex {
    /// An index of these names. It leaves out sets, and attributes that no package name can spell. If one package name
    /// stands for several attributes, it keeps the one that the resolver takes.
    pub fn new(names: &Names) -> Self {
        let mut attributes: HashMap<PackageName, Box<str>> = HashMap::new();
        let mut programs: HashMap<Box<str>, Vec<PackageName>> = HashMap::new();
        for (set, members) in &names.names {
            let prefix = if set.is_empty() { String::new() } else { format!("{set}.") };
            for member in members {
                let known = names.packages.get(member).filter(|_| set.is_empty());
                let is_nothing = names.surveyed && known.is_none();
                if set.is_empty() && (is_nothing || names.names.contains_key(member)) {
                    continue;
                }
                let asked =
                    [set, member].into_iter().filter(|part| !part.is_empty()).map(|part| as_asked(part));
                let Some(asked) = asked.collect::<Option<Vec<_>>>() else { continue };
                let Ok(name) = asked.join(".").parse::<PackageName>() else { continue };
                let attribute = format!("{prefix}{member}");
                if let Some(program) = known.and_then(|known| known.main_program.as_ref()) {
                    programs.entry(program.to_ascii_lowercase().into()).or_default().push(name.clone());
                }
                let exact = attribute == name.as_str();
                if exact || !attributes.contains_key(&name) {
                    attributes.insert(name, attribute.into());
                }
            }
        }
        for names in programs.values_mut() {
            names.sort_unstable_by(|a, b| (a.as_str().len(), a).cmp(&(b.as_str().len(), b)));
            names.dedup();
        }
        Self { attributes, packages: names.packages.clone(), programs }
    }

    /// The number of package names.
    pub fn len(&self) -> usize {
        self.attributes.len()
    }

    /// Whether the index has no names.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// The names that resemble a word most, best first and at most `limit`. The package with exactly this name comes
    /// first, then packages whose main program has this name.
    pub fn nearest(&self, word: &str, limit: usize) -> Vec<FoundName> {
        let word = word.to_ascii_lowercase();
        let itself = word.parse::<PackageName>().ok().filter(|name| self.attributes.contains_key(name));
        let programs = self.programs.get(word.as_str()).into_iter().flatten().cloned();
        let alike = nearest(&word, self.attributes.keys().map(PackageName::as_str), limit);
        let alike = alike.into_iter().filter_map(|name| name.parse::<PackageName>().ok());
        let mut seen = HashSet::new();
        let names = itself.into_iter().chain(programs).chain(alike).filter(|name| seen.insert(name.clone()));
        let found = names.take(limit).filter_map(|name| {
            let attribute = self.attributes.get(&name)?.to_string();
            let summary = self.packages.get(&attribute).cloned().unwrap_or_default();
            Some(FoundName { name, attribute, summary })
        });
        found.collect()
    }
}

/// The spelling of an attribute in image names: in lower case, without a leading underscore. `None` if image names
/// cannot spell it.
pub fn as_asked(attribute: &str) -> Option<String> {
    let lower = attribute.to_ascii_lowercase();
    let asked = lower.strip_prefix('_').unwrap_or(&lower);
    (!asked.contains('.') && asked.parse::<PackageName>().is_ok()).then(|| asked.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(json: &str) -> NameIndex {
        NameIndex::new(&serde_json::from_str(json).expect("names"))
    }

    #[test]
    fn names_are_those_that_can_be_asked_for() {
        let index = index(
            r#"{"names":{"":["git","gitFull","_1password","_both","both","dotted.name","quo\"te","--option","Twin","twin"],
                "python3Packages":["PyYAML","requests"],"odd.set":["x"]}}"#,
        );
        let attribute = |name: &str| {
            let name: PackageName = name.parse().expect("a name");
            index.attributes.get(&name).map(|attribute| attribute.to_string())
        };
        assert_eq!(attribute("gitfull").as_deref(), Some("gitFull"));
        assert_eq!(attribute("1password").as_deref(), Some("_1password"));
        assert_eq!(attribute("both").as_deref(), Some("both"));
        assert_eq!(attribute("twin").as_deref(), Some("twin"));
        assert_eq!(attribute("python3packages.pyyaml").as_deref(), Some("python3Packages.PyYAML"));
        assert_eq!(attribute("dotted.name"), None);
        assert_eq!(index.len(), 7);
    }

    #[test]
    fn finds_by_word() {
        let index = index(r#"{"names":{"":["git","gitFull"],"python3Packages":["PyYAML","requests"]}}"#);
        let found = |word: &str| -> Vec<String> {
            index.nearest(word, 5).into_iter().map(|found| found.attribute).collect()
        };
        assert_eq!(found("requests"), ["python3Packages.requests"]);
        assert_eq!(found("yaml"), ["python3Packages.PyYAML"]);
        assert_eq!(found("gitfulll"), ["gitFull"]);
        assert_eq!(found("PyYAML"), ["python3Packages.PyYAML"]);
        assert!(found("nothing").is_empty());
        assert!(NameIndex::new(&Names::default()).is_empty());
    }

    const SURVEYED: &str = r#"{"surveyed":true,"names":{
        "":["cmake","gnused","jdk","jdk17_headless","javaPackages","lib","nodejs","postgresql","Remake"],
        "javaPackages":["junit"]},
        "packages":{"cmake":{"main_program":"cmake"},"gnused":{},"jdk17_headless":{"main_program":"java"},
            "jdk":{"main_program":"java","version":"21","description":"Java's tools"},
            "nodejs":{"main_program":"node"},"postgresql":{},"Remake":{"main_program":"Make"}}}"#;

    #[test]
    fn main_programs_are_names() {
        let index = index(SURVEYED);
        let found = |word: &str| -> Vec<String> {
            index.nearest(word, 5).into_iter().map(|found| found.attribute).collect()
        };
        assert_eq!(found("java"), ["jdk", "jdk17_headless"]);
        assert_eq!(found("node"), ["nodejs"]);
        assert_eq!(found("make")[0], "Remake");
        assert_eq!(found("postgres"), ["postgresql"]);
        let jdk = &index.nearest("java", 1)[0];
        assert_eq!(
            serde_json::to_string(jdk).expect("serialises"),
            r#"{"name":"jdk","attribute":"jdk","version":"21","main_program":"java","description":"Java's tools"}"#
        );
    }

    #[test]
    fn what_is_no_package_is_not_found() {
        let index = index(SURVEYED);
        assert!(index.nearest("lib", 5).is_empty(), "neither package nor set");
        assert!(index.nearest("javapackages", 5).is_empty(), "a set");
        assert_eq!(index.nearest("junit", 5)[0].attribute, "javaPackages.junit");
    }

    #[test]
    fn merges_pieces() {
        let mut names: Names = serde_json::from_str(r#"{"names":{"":["a","b"]}}"#).expect("names");
        let other = r#"{"names":{"b":["c"]},"packages":{"a":{"version":"1"}}}"#;
        names.merge(serde_json::from_str(other).expect("names"));
        assert_eq!(names.names.len(), 2);
        assert_eq!(names.packages["a"].version.as_deref(), Some("1"));
    }
}
