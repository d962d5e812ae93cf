//! `nix/index.nix`: the names that it lists, what it says about packages, and the position at which it fails.

use crate::{evaluator::evaluators, fixture, package_set::bundled};
use serde_json::{Value, json};

/// A request for these attributes. With `null`, index.nix chooses the attributes.
fn request(source: Value, look: Value, metadata: bool) -> Value {
    json!({
        "source": source, "system": "x86_64-linux", "config": {}, "look": look, "metadata": metadata,
    })
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("a map").keys().map(String::as_str).collect()
}

/// A package set of this many packages, and these further attributes.
fn large(more: &str) -> String {
    format!(
        r#"{{ system, config }}:
        let
          drv = name: derivation {{ inherit name system; builder = "/never/built"; }};
          many = builtins.listToAttrs
            (builtins.genList (i: {{ name = "package${{toString i}}"; value = drv "package${{toString i}}-1"; }}) 2500);
          packages = many // rec {{ {more} }};
        in packages"#
    )
}

#[test]
fn lists_the_requested_names() {
    for nix in evaluators() {
        let top = nix.index(&request(fixture(), json!([]), false)).expect("lists");
        assert_eq!(keys(&top["names"]), [""]);
        assert!(texts(&top["names"][""]).contains(&"gitFull"));
        // Members of these sets are not evaluated, and what is not a package is left out.
        let look =
            json!(["python3Packages", "hello", "throwingSet", "function", "pkgsMusl", "pkgs", "nope", "lib"]);
        let some = nix.index(&request(fixture(), look, false)).expect("lists");
        assert_eq!(keys(&some["names"]), ["", "python3Packages"], "{}", nix.version());
        assert_eq!(texts(&some["names"]["python3Packages"]), ["PyYAML", "aborts", "inner", "requests"]);
        assert_eq!(some["names"][""], top["names"][""]);
        assert_eq!(some["packages"], json!({}));
        // Some attributes of this set make every evaluation fail.
        nix.index(&request(fixture(), json!(null), false)).expect_err("looks at everything");
    }
}

#[test]
fn a_failing_index_traces_the_last_name() {
    for nix in evaluators() {
        for bad in ["missingAttribute", "aborts", "infiniteRecursion"] {
            let look = json!(["hello", "python3Packages", bad, "gitFull"]);
            let error = nix.index(&request(fixture(), look, true)).expect_err(bad);
            let places: Vec<_> =
                error.lines().filter_map(|line| line.strip_prefix("trace: firn looks at ")).collect();
            assert_eq!(places, ["0", "1", "2"], "{}: {bad}: {error}", nix.version());
        }
    }
}

#[test]
fn says_what_packages_are() {
    for nix in evaluators() {
        let look =
            json!(["hello", "licenses", "throwingMeta", "oddMeta", "ownVersion", "unfree", "throws", "text"]);
        let answer = nix.index(&request(fixture(), look, true)).expect("lists");
        let nothing = json!({ "version": null, "main_program": null, "description": null });
        let expect = json!({
            "hello": { "version": null, "main_program": "hello", "description": "A greeting" },
            "licenses": nothing, "throwingMeta": nothing, "oddMeta": nothing, "unfree": nothing,
            "ownVersion": { "version": "unstable-2024", "main_program": null, "description": null },
        });
        assert_eq!(answer["packages"], expect, "{}", nix.version());
    }
}

#[test]
fn looks_into_every_set_of_a_small_package_set() {
    let [nix, ..] = evaluators();
    let source = json!({ "path": bundled() });
    let answer = nix.index(&request(source, json!(null), false)).expect("lists");
    let names = answer["names"].as_object().expect("sets");
    assert!(texts(&names["python3Packages"]).contains(&"pyYAML"));
    assert!(names.contains_key("hazards") && names.contains_key("debianPackages"));
    assert!(!names.contains_key("pkgs"), "the set in itself");
    assert!(!names.contains_key("git"), "a package");
}

/// As in nixpkgs: sets that contain themselves, in lower case, and the whole set again.
#[test]
fn looks_into_those_sets_of_a_large_one_that_are_named_so() {
    let set = large(
        r#"
        python3Packages = rec { requests = drv "requests-1"; inherit python3Packages; pkgs = packages; };
        python3 = drv "python3-3" // { pkgs = python3Packages; };
        buildPackages = packages // { more = 1; };
        pkgsMusl = packages;
        xorg.xeyes = drv "xeyes-1";
        vscode-extensions.some.thing = drv "thing-1";
        nerd-fonts = { recurseForDerivations = true; iosevka = drv "iosevka-1"; };
        hunspellDicts.de = drv "de-1";
        unnamed = { recurseForDerivations = true; inner = drv "inner-1"; };
        unknown.inner = drv "inner-2";
        myPackages = { __functor = self: x: x; };
        noto-fonts = drv "noto-1";
        linuxPackages = abort "evaluates a kernel";
        evil = abort "is not looked at";
        "#,
    );
    for nix in evaluators() {
        let file = nix.scratch("default.nix", &set);
        let source = json!({ "path": file });
        let answer = nix.index(&request(source.clone(), json!(null), false)).expect("lists");
        let sets = ["", "hunspellDicts", "nerd-fonts", "python3Packages", "vscode-extensions", "xorg"];
        assert_eq!(keys(&answer["names"]), sets, "{}", nix.version());
        assert_eq!(texts(&answer["names"]["python3Packages"]), ["python3Packages", "requests"]);
        // A set whose name does not show it is recognised when it is evaluated.
        let look = json!(["unnamed", "unknown", "python3", "package7"]);
        let answer = nix.index(&request(source, look, true)).expect("lists");
        assert_eq!(keys(&answer["names"]), ["", "unnamed"]);
        assert_eq!(keys(&answer["packages"]), ["package7", "python3"]);
    }
}

#[test]
fn a_source_that_is_no_package_set_has_no_names() {
    for nix in evaluators() {
        let file = nix.scratch("default.nix", "{ system, config }: 7");
        let source = json!({ "path": file });
        let error = nix.index(&request(source, json!([]), false)).expect_err("fails");
        assert!(error.contains("not an attribute set of packages"), "{}: {error}", nix.version());
    }
}
