//! Packages that the set refuses, and evaluations that fail.

use crate::{check, evaluator::evaluators, request};
use serde_json::json;

#[test]
fn tells_why_a_package_is_refused() {
    check(&[
        ("unfree", "unfree []"),
        ("broken", "broken []"),
        ("insecure", "insecure []"),
        ("unsupported", "unsupported_system []"),
        ("oldunfree", "unfree []"),
        ("oldinsecure", "insecure []"),
        ("oldunsupported", "unsupported_system []"),
        ("badplatform", "unsupported_system []"),
        ("patterns", "eval_error []"),
        ("unfreeandbroken", "unfree []"),
        ("refusedfornoreason", "eval_error []"),
        ("allowedunfree", r#"ok allowedUnfree allowed-unfree-1 ["out"]"#),
    ]);
    for nix in evaluators() {
        let mut allowing = request(&["unfree", "unfreeandbroken", "broken", "insecure", "unsupported"]);
        allowing["config"] = json!({
            "allowUnfree": true,
            "permittedInsecurePackages": ["insecure-1"],
            "allowUnsupportedSystem": true,
        });
        let answer = nix.resolve(&allowing).expect("resolves");
        let kind = |name: &str| answer["packages"][name]["problem"]["kind"].clone();
        // An allowed attribute is not the reason: this set refuses for another one.
        assert_eq!(kind("unfree"), "eval_error");
        assert_eq!(kind("unfreeandbroken"), "broken");
        assert_eq!(kind("broken"), "broken");
        assert_eq!(kind("insecure"), "eval_error");
        assert_eq!(kind("unsupported"), "eval_error");
    }
}

#[test]
fn a_throw_is_a_problem_of_one_name_alone() {
    check(&[
        ("throws", "eval_error []"),
        ("asserts", "eval_error []"),
        ("throwingset", "eval_error []"),
        ("throwingset.x", "eval_error []"),
        ("dependsonthrow", "eval_error []"),
        ("hello", r#"ok hello hello-2.10 ["out"]"#),
    ]);
    for nix in evaluators() {
        for (name, message) in [
            ("throws", "throws has been removed; use hello instead"),
            ("throwingset.x", "a set that is gone"),
            ("dependsonthrow", "the dependency is gone"),
            ("unfree", "unfree-1 is refused"),
        ] {
            let mut explained = request(&[name]);
            explained["explain"] = json!(true);
            let error = nix.resolve(&explained).expect_err("throws");
            assert!(error.contains(message), "{}: {name}: {error}", nix.version());
        }
    }
}

#[test]
fn what_nix_cannot_catch_ends_the_evaluation() {
    for nix in evaluators() {
        for (name, message) in [
            ("missingattribute", "missing"),
            ("typeerror", "1 + "),
            ("aborts", "aborts gives up"),
            ("infiniterecursion", "infinite recursion"),
            ("importsfromderivation", "import-from-derivation"),
        ] {
            let error = nix.resolve(&request(&["hello", name])).expect_err(name);
            assert!(error.contains(message), "{}: {name}: {error}", nix.version());
        }
    }
}

/// The output paths are known only after the build.
#[test]
fn what_has_no_path_before_it_is_built_is_refused_by_name() {
    let names = ["hello", "contentaddressed", "ofcontentaddressed", "impure", "nostorepath", "floating"];
    for nix in evaluators() {
        let nix = nix.with_features("ca-derivations impure-derivations");
        let answer = nix.resolve(&request(&names)).expect("resolves");
        for name in ["contentaddressed", "ofcontentaddressed", "impure"] {
            let problem = &answer["packages"][name]["problem"];
            assert_eq!(problem["kind"], "not_a_package", "{}: {name}: {answer}", nix.version());
            let message = problem["message"].as_str().expect("a text");
            assert!(message.contains("content-addressed or impure"), "{}: {message}", nix.version());
        }
        assert_eq!(answer["packages"]["nostorepath"]["problem"]["kind"], "not_a_package");
        assert!(answer["packages"]["hello"]["ok"].is_object(), "{}: {answer}", nix.version());
        // If no hash is given, it is computed when the derivation is built, and so is the path. But a derivation that
        // is not marked as content-addressed counts as an ordinary one.
        assert!(answer["packages"]["floating"]["ok"].is_object(), "{}: {answer}", nix.version());
    }
    for nix in evaluators() {
        let error = nix.resolve(&request(&["contentaddressed"])).expect_err("the feature is off");
        assert!(error.contains("ca-derivations"), "{}: {error}", nix.version());
    }
}
