//! Where package sets come from.

use crate::{evaluator::evaluators, request};
use serde_json::json;

#[test]
fn the_set_is_imported_once_and_nothing_else_is() {
    for nix in evaluators() {
        let mut wanted = request(&["hello", "git", "openssl.dev", "nope", "unfree"]);
        wanted["config"] = json!({ "allowUnfree": true, "permittedInsecurePackages": ["x"] });
        let trace = nix.trace(&wanted);
        assert_eq!(trace.matches("imported with config").count(), 1, "{}: {trace}", nix.version());
        let config = r#"imported with config {"allowUnfree":true,"permittedInsecurePackages":["x"]}"#;
        assert!(trace.contains(config), "{}: {trace}", nix.version());
    }
}

#[test]
fn a_source_that_is_no_package_set_is_named() {
    for nix in evaluators() {
        for (content, message) in [
            ("{ system, config }: 7", "not an attribute set of packages but a int"),
            ("{ system }: { }", "config"),
            ("{ system, config }: throw \"no set today\"", "no set today"),
        ] {
            let file = nix.scratch("default.nix", content);
            // Even when nothing is asked of it: so the backend sees that no name is to blame.
            for names in [&["hello"][..], &[]] {
                let mut wanted = request(names);
                wanted["source"]["path"] = json!(file);
                let error = nix.resolve(&wanted).expect_err("fails");
                assert!(error.contains(message), "{}: {error}", nix.version());
            }
        }
    }
}

/// Firn fetches repositories itself, and says what commit a path is.
#[test]
fn a_path_may_be_a_commits() {
    for nix in evaluators() {
        let file = nix.scratch("default.nix", "{ system, config }: { }");
        let mut wanted = request(&[]);
        wanted["source"] = json!({ "path": file });
        let answer = nix.resolve(&wanted).expect("resolves");
        assert_eq!((&answer["revision"], &answer["revision_date"]), (&json!(null), &json!(null)));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        wanted["source"] = json!({ "path": file, "revision": commit, "date": 1_000_000_000 });
        let answer = nix.resolve(&wanted).expect("resolves");
        assert_eq!((&answer["revision"], &answer["revision_date"]), (&json!(commit), &json!(1_000_000_000)));
    }
}
