//! `nix/index.nix`: which names it lists, and what takes down no more than its own depth.

use crate::{evaluator::evaluators, fixture, package_set::bundled};
use serde_json::{Value, json};

fn request(source: Value, depth: &str) -> Value {
    json!({ "source": source, "system": "x86_64-linux", "config": {}, "depth": depth })
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

#[test]
fn lists_names_as_deep_as_it_is_told() {
    for nix in evaluators() {
        let top = nix.index(&request(fixture(), "top")).expect("lists");
        assert_eq!(top["names"].as_object().expect("sets").len(), 1);
        assert!(texts(&top["names"][""]).contains(&"gitFull"));
        let named = nix.index(&request(fixture(), "named")).expect("lists");
        let sets: Vec<&String> = named["names"].as_object().expect("sets").keys().collect();
        assert_eq!(sets, ["", "python3Packages"], "{}", nix.version());
        // Members are not evaluated, and what is no package is left out.
        assert_eq!(texts(&named["names"]["python3Packages"]), ["PyYAML", "aborts", "inner", "requests"]);
        assert_eq!(named["names"][""], top["names"][""]);
        // Some attributes of this set end every evaluation that looks at them.
        nix.index(&request(fixture(), "sets")).expect_err("looks at everything");
    }
}

#[test]
fn looks_into_every_set_of_a_small_package_set() {
    let [nix, ..] = evaluators();
    let answer = nix.index(&request(json!({ "type": "path", "path": bundled() }), "sets")).expect("lists");
    let names = answer["names"].as_object().expect("sets");
    assert!(texts(&names["python3Packages"]).contains(&"pyYAML"));
    assert!(names.contains_key("hazards") && names.contains_key("debianPackages"));
    assert!(!names.contains_key("pkgs"), "the set in itself");
    assert!(!names.contains_key("git"), "a package");
}

#[test]
fn a_source_that_is_no_package_set_has_no_names() {
    for nix in evaluators() {
        let file = nix.scratch("default.nix", "{ system, config }: 7");
        let source = json!({ "type": "path", "path": file });
        let error = nix.index(&request(source, "top")).expect_err("fails");
        assert!(error.contains("not an attribute set of packages"), "{}: {error}", nix.version());
    }
}
