//! The names of a package set at one revision: what `nix/index.nix` lists, and how people find things in it.

use crate::{nearest::nearest, package_name::PackageName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The answer of `nix/index.nix`, and the record that is kept of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The attributes of each set that could be listed, by the set's own attribute; the package set itself is
    /// under the empty text.
    pub names: BTreeMap<String, Vec<String>>,
}

/// Names that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameIndex {
    /// Attribute paths by the name to ask for.
    attributes: HashMap<PackageName, Box<str>>,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundName {
    /// The name to ask for.
    pub name: PackageName,
    /// The attribute path in its real spelling.
    pub attribute: String,
}

impl NameIndex {
    /// An index of these names. Attributes that no image name can spell are left out; of several that one
    /// name spells, the one is kept that the resolver takes.
    pub fn new(names: &Names) -> Self {
        let mut attributes: HashMap<PackageName, Box<str>> = HashMap::new();
        for (set, members) in &names.names {
            let prefix = if set.is_empty() { String::new() } else { format!("{set}.") };
            for member in members {
                let asked =
                    [set, member].into_iter().filter(|part| !part.is_empty()).map(|part| as_asked(part));
                let Some(asked) = asked.collect::<Option<Vec<_>>>() else { continue };
                let Ok(name) = asked.join(".").parse::<PackageName>() else { continue };
                let attribute = format!("{prefix}{member}");
                let exact = attribute == name.as_str();
                if exact || !attributes.contains_key(&name) {
                    attributes.insert(name, attribute.into());
                }
            }
        }
        Self { attributes }
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.attributes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// The names most like a word, best first and at most `limit`.
    pub fn nearest(&self, word: &str, limit: usize) -> Vec<FoundName> {
        let word = word.to_ascii_lowercase();
        let names = nearest(&word, self.attributes.keys().map(PackageName::as_str), limit);
        let found = names.into_iter().filter_map(|name| {
            let name: PackageName = name.parse().ok()?;
            let attribute = self.attributes.get(&name)?.to_string();
            Some(FoundName { name, attribute })
        });
        found.collect()
    }
}

/// How an image name spells an attribute, if it can: in lower case and without an underscore in front.
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
        assert!(NameIndex::new(&Names { names: BTreeMap::new() }).is_empty());
    }
}
