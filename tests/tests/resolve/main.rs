//! `nix/resolve.nix` and `nix/load-pkgs.nix` with every Nix, on a small package set that is evaluated and never
//! built. How the backend uses the answers is not tested here.

mod evaluator;
mod index;
mod names;
mod package_set;
mod packages;
mod problems;
mod sources;

use evaluator::evaluators;
use serde_json::{Value, json};

fn fixture() -> Value {
    json!({ "path": concat!(env!("CARGO_MANIFEST_DIR"), "/nix/names.nix") })
}

pub(crate) fn request(attributes: &[&str]) -> Value {
    json!({ "source": fixture(), "system": "x86_64-linux", "config": {}, "attributes": attributes })
}

/// A resolution in one line: `ok ATTRIBUTE NAME [OUTPUTS]` or `KIND [CANDIDATES]`.
fn summary(resolution: &Value) -> String {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().expect("a list").iter().map(|v| v.as_str().expect("a text").to_owned()).collect()
    };
    if let Some(ok) = resolution.get("ok") {
        let outputs: Vec<&str> = ok["outputs"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|output| {
                let (name, path) = (&output["name"], output["path"].as_str().expect("a path"));
                let name = name.as_str().expect("a name");
                let suffix = if name == "out" { String::new() } else { format!("-{name}") };
                assert!(path.starts_with("/nix/store/") && path.ends_with(&suffix), "{name}: {path}");
                name
            })
            .collect();
        assert!(ok["drv"].as_str().expect("a path").ends_with(".drv"));
        let text = |key: &str| ok[key].as_str().expect("a text");
        format!("ok {} {} {outputs:?}", text("attribute"), text("name"))
    } else {
        let problem = &resolution["problem"];
        assert!(!problem["message"].as_str().expect("a text").is_empty());
        let candidates = texts(&problem["candidates"]);
        format!("{} {candidates:?}", problem["kind"].as_str().expect("a kind"))
    }
}

/// Resolves all names at once and compares the summary of each. `…` stands for any candidates.
pub(crate) fn check(table: &[(&str, &str)]) {
    let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    for nix in evaluators() {
        let answer = nix.resolve(&request(&names)).expect("resolves");
        for (name, expect) in table {
            let actual = summary(&answer["packages"][*name]);
            let matches = match expect.strip_suffix('…') {
                Some(start) => actual.starts_with(start),
                None => actual == *expect,
            };
            assert!(matches, "{}: {name}: {actual}, not {expect}", nix.version());
        }
        assert_eq!(answer["packages"].as_object().expect("a map").len(), names.len());
    }
}
